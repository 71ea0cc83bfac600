// Makes all the connections of a client, or none: if one fails, the others are closed.

import { EINVAL } from '../constants/errno.js';
import { capabilitiesOf } from '../nbd/capabilities.js';
import { NbdArgumentError, NbdError } from '../nbd/errors.js';
import { MAX_CONNECTIONS, sameExport } from '../nbd/export-info.js';
import { printable } from '../nbd/text.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { Connector } from './connector.js';

/** Which connections to make. */
export interface Wanted {
  readonly connections?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Whether to find the processes that serve them. */
  readonly watch: boolean;
}

/** Makes the connections of a client, one or more. @throws NbdError, and the errors of Connector.connect */
export async function connectAll(
  server: Pick<Connector, 'connect' | 'singleConnection'>,
  { connections: count = 1, signal, watch }: Wanted,
): Promise<readonly NegotiatedConnection[]> {
  if (!Number.isInteger(count) || count < 1 || count > MAX_CONNECTIONS) {
    throw new NbdArgumentError(
      `bad number of connections ${printable(String(count), 100)}: it must be 1 to ${MAX_CONNECTIONS}`,
      { code: typeof count === 'number' ? 'ERR_OUT_OF_RANGE' : 'ERR_INVALID_ARG_TYPE' },
    );
  }
  const first = await server.connect({ signal, watch });
  const several = capabilitiesOf(first.info).multiConn && !server.singleConnection;
  const attempts = Array.from({ length: several ? count - 1 : 0 }, () => server.connect({ signal, watch }));
  const results = await Promise.allSettled(attempts);
  const others = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const failed = results.find((result) => result.status === 'rejected');
  const differs = others.map((other) => sameExport(first.info, other.info)).find((why) => why !== undefined);
  if (failed !== undefined || differs !== undefined) {
    for (const connection of [first, ...others]) connection.close();
    throw (
      failed?.reason ??
      new NbdError(
        `another connection to the export "${printable(first.info.name, 256)}" differs: ${differs}`,
        { errno: EINVAL },
      )
    );
  }
  return [first, ...others];
}
