// What is known and what can be done about a server that went away.
//
// Used by start.ts for each file's reconnector.

import { printable } from '../nbd/text.js';
import { describeExit } from '../transport/child.js';
import { bareWords } from '../transport/confine.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { NbdServer } from '../transport/server.js';
import { systemClock } from './clock.js';
import type { Settings } from './settings.js';

/** Milliseconds to wait for the exit of a child whose connection has ended. */
const EXIT_TIME = 1000;

/** Makes one connection, to a child that was started anew if need be. */
export type Connect = (signal: AbortSignal) => Promise<NegotiatedConnection>;

/**
 * How to connect again; undefined where that is impossible or not wanted.
 * @param ended hears when a child that was the server has ended with all that it had started
 */
export function reconnectBy(
  server: NbdServer,
  settings: Pick<Settings, 'restart'>,
  ended?: () => void,
): Connect | undefined {
  if (server.reconnectable) return (signal) => server.connect({ signal });
  if (!settings.restart || !server.restartable) return undefined;
  return async (signal) => {
    const end = server.groupEnded();
    await server.restart();
    void end?.then(ended);
    return server.connect({ signal });
  };
}

/** Why a connection was lost: how the child ended, if one did, else what the data path saw. */
export async function explainLoss(server: NbdServer, why: string): Promise<string> {
  const { exited } = server;
  const { target } = server.endpoint;
  if (exited === undefined || !('argv' in target)) return why;
  const enough = new AbortController();
  const exit = await Promise.race([exited, systemClock.wait(EXIT_TIME, enough.signal)]);
  enough.abort();
  return exit === undefined ? why : `${printable(bareWords(target.argv)[0] ?? '')} ${describeExit(exit)}`;
}
