// Reconnects to a lost server, and explains its loss.
//
// Used by start.ts, single-file.ts, connected-disk.ts and shared-server.ts.

import { connectTo } from '../../chunks/status/writers.js';
import { isProxy } from '../../linux/socket-holders.js';
import { printable } from '../../nbd/text.js';
import { describeExit, EXIT_TIME } from '../../transport/child.js';
import { programOf } from '../../transport/confine.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import type { NbdServer } from '../../transport/server.js';
import { systemClock } from '../clock.js';
import type { Settings } from '../settings.js';

/** Makes one connection, to a restarted child if necessary. */
export type Connect = (signal: AbortSignal) => Promise<NegotiatedConnection>;

/** Whether a lost server can come back as a new process, which needs the unflushed writes again. */
export function keepsWrites(server: NbdServer, { restart }: Pick<Settings, 'restart'>): boolean {
  return server.reconnectable || (restart && server.restartable);
}

/**
 * A function that connects again; undefined where that is impossible or not wanted.
 * @param restarts called before a child is restarted; its result is called when the old child and all processes that it
 *   had started have ended
 */
export function reconnectBy(
  server: NbdServer,
  settings: Pick<Settings, 'restart'>,
  restarts?: () => () => void,
): Connect | undefined {
  if (server.reconnectable) return (signal) => connectAgain(server, signal);
  if (!keepsWrites(server, settings))
    return server.isPersistent ? (signal) => connectTo(server, signal) : undefined;
  return async (signal) => {
    const end = isProxyCommand(server) ? undefined : server.groupEnded();
    const ended = restarts?.();
    await server.restart();
    if (ended !== undefined) void end?.then(ended);
    return connectTo(server, signal);
  };
}

/** A chunk server between the mount and its server is started again without --restart: the user has not named it. */
async function connectAgain(server: NbdServer, signal: AbortSignal): Promise<NegotiatedConnection> {
  if (server.hasEnded) await server.restart();
  return connectTo(server, signal);
}

/** Whether a child is only a proxy, such as ssh or socat: its end does not prove the end of the server behind it. */
export function isProxyCommand({ endpoint: { target } }: Pick<NbdServer, 'endpoint'>): boolean {
  return target.kind === 'ssh' || ('argv' in target && isProxy(target.argv[0] ?? ''));
}

/** Why a connection was lost: the exit of the child, if it has exited, else the reason of the data path. */
export async function explainLoss(server: NbdServer, why: string): Promise<string> {
  const { exited } = server;
  const { target } = server.endpoint;
  if (exited === undefined || !('argv' in target)) return why;
  const enough = new AbortController();
  const exit = await Promise.race([exited, systemClock.wait(EXIT_TIME, enough.signal)]);
  enough.abort();
  return exit === undefined ? why : `${printable(programOf(target.argv))} ${describeExit(exit)}`;
}
