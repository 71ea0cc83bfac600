// What is known and what can be done about a server that went away.
//
// Used by start.ts for each file's reconnector.

import { isRelay } from '../../linux/socket-holders.js';
import { printable } from '../../nbd/text.js';
import { describeExit } from '../../transport/child.js';
import { bareWords } from '../../transport/confine.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import type { NbdServer } from '../../transport/server.js';
import { systemClock } from '../clock.js';
import type { Settings } from '../settings.js';

/** Milliseconds to wait for the exit of a child whose connection has ended. */
const EXIT_TIME = 1000;

/** Makes one connection, to a child that was started anew if need be. */
export type Connect = (signal: AbortSignal) => Promise<NegotiatedConnection>;

/**
 * How to connect again; undefined where that is impossible or not wanted.
 * @param restarts hears that a child will be started anew; what it returns is called when the last one has ended with
 *   all that it had started
 */
export function reconnectBy(
  server: NbdServer,
  settings: Pick<Settings, 'restart'>,
  restarts?: () => () => void,
): Connect | undefined {
  if (server.reconnectable) return (signal) => server.connect({ signal });
  if (!settings.restart || !server.restartable) return undefined;
  return async (signal) => {
    const end = isRelayCommand(server) ? undefined : server.groupEnded();
    const ended = restarts?.();
    await server.restart();
    if (ended !== undefined) void end?.then(ended);
    return server.connect({ signal });
  };
}

/** Whether a server that is our child only passes on what it gets: its end says nothing about who does the work. */
export function isRelayCommand({ endpoint: { target } }: Pick<NbdServer, 'endpoint'>): boolean {
  return target.kind === 'ssh' || ('argv' in target && isRelay(target.argv[0] ?? ''));
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
