// Connects to the server of an image, and starts that again when it has ended and the client reconnects.

import { setTimeout as delay } from 'node:timers/promises';
import { connectTo } from '../chunks/status/writers.js';
import type { Attempt, Connector } from '../client/connector.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { NbdServer } from '../transport/server.js';

/**
 * Starts a server again. Resolves when all processes of the old one have ended: one of them may still carry out a change
 * that its client has given up.
 */
async function startAgain(server: NbdServer, { signal, replaces }: Attempt): Promise<void> {
  // A server that goes on without our child may still carry it out.
  const end = server.reconnectable ? undefined : server.groupEnded();
  const ended = replaces?.();
  await server.restart();
  if (end === undefined) return;
  void end.then(ended);
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  await Promise.race([end, delay(2 ** 31 - 1, undefined, { signal: either }).catch(() => undefined)]);
  stop.abort();
}

/** The connector of the server of an image, which is our child. */
export function imageConnector(server: NbdServer): Connector {
  let starting: Promise<void> | undefined;
  return {
    singleConnection: false,
    canReconnect: true,
    isOver: () => false,
    async connect(attempt): Promise<NegotiatedConnection> {
      if (!attempt.watch) return server.connect({ signal: attempt.signal });
      if (server.hasEnded && attempt.replaces !== undefined)
        starting ??= startAgain(server, attempt).finally(() => {
          starting = undefined;
        });
      await starting;
      return connectTo(server, attempt.signal);
    },
  };
}
