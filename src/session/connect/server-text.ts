// The server as the user named it, in one line, for the status.

import { withoutSecrets, wordWithoutSecrets } from '../../nbd/secrets.js';
import { printable } from '../../nbd/text.js';
import { bareWords } from '../../transport/confine.js';
import type { ServerMode } from '../settings.js';

const commandText = (kind: string, argv: readonly string[]): string =>
  printable(`${kind} ${bareWords(argv).map(wordWithoutSecrets).join(' ')}`);

/** The line: a URI, or the words of the command line, without secrets. */
export function serverText(server: ServerMode): string {
  switch (server.kind) {
    case 'uri':
      return printable(withoutSecrets(server.uri));
    case 'tcp':
      return printable(`tcp ${server.host} ${server.port}`);
    case 'unix':
      return printable(`unix ${server.path}`);
    case 'vsock':
      return `vsock ${server.cid} ${server.port}`;
    case 'fd':
      return `fd ${server.fd}`;
    case 'socket-activation':
      return server.name ?? commandText(server.kind, server.argv);
    default:
      return commandText(server.kind, server.argv);
  }
}
