// Turns the server that the user named into the endpoint that the transport opens.
//
// Called once at the start. Pure except for warnings about unknown URI parameters.

import { printable } from '../../nbd/text.js';
import { type NbdUri, parseNbdUri } from '../../nbd/uri/uri.js';
import { type Endpoint, endpointFromUri } from '../../transport/target.js';
import type { Report, Settings } from '../settings.js';

function warnOfUnknownParameters(uri: NbdUri, report: Pick<Report, 'line' | 'detail'>): void {
  for (const name of uri.unknownParameters) {
    const text = `the URI parameter ${printable(name, 100)} is unknown and has no effect`;
    if (name.toLowerCase().startsWith('x-')) report.detail(text);
    else report.line(text);
  }
}

/**
 * The endpoint that the settings name.
 * @throws NbdError for a bad URI
 */
export function endpointOf(
  settings: Pick<Settings, 'server' | 'exportName'>,
  report: Pick<Report, 'line' | 'detail'>,
): Endpoint {
  const { server, exportName = '' } = settings;
  if (server.kind !== 'uri') return { target: server, exportName, tls: undefined };
  const uri = parseNbdUri(server.uri);
  warnOfUnknownParameters(uri, report);
  return endpointFromUri(uri);
}
