// Makes the first connection of a file that a program opens, with retries.
//
// Used by the ExportDirectoryKeeper. It retries an unreachable server for the --reconnect time, like a lost one; it does
// not retry a server that answers and refuses.

import { EIO } from '../../constants/errno.js';
import { NBD_REP_ERR_SHUTDOWN, NBD_REP_ERR_UNKNOWN } from '../../nbd/constants.js';
import { NbdServerError } from '../../nbd/errors.js';
import { ReconnectPolicy } from '../../transport/reconnect-policy.js';
import type { Clock } from '../clock.js';
import type { Report } from '../settings.js';

/** The outcome. `gone`: the server has no such export. */
export type FirstConnection<C> =
  | { readonly kind: 'connected'; readonly connection: C }
  | { readonly kind: 'refused'; readonly errno: number; readonly gone: boolean; readonly why: string }
  | { readonly kind: 'unreachable'; readonly why: string }
  | { readonly kind: 'stopped' };

/** How to make the connection. */
export interface FirstConnectionOptions<C> {
  readonly name: string;
  readonly connect: (signal: AbortSignal) => Promise<C>;
  /** Milliseconds; see Settings.reconnectMs. */
  readonly limit: number;
  readonly clock: Clock;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** See the file's head. Never rejects. */
export async function makeFirstConnection<C>(
  options: FirstConnectionOptions<C>,
): Promise<FirstConnection<C>> {
  const { name, connect, limit, clock, report, signal } = options;
  const policy = new ReconnectPolicy(limit, Math.random);
  const end = clock.now() + limit;
  // The first attempt has no pause.
  policy.nextPause();
  for (let attempt = 0; ; attempt++) {
    try {
      return { kind: 'connected', connection: await connect(signal) };
    } catch (error) {
      if (signal.aborted) return { kind: 'stopped' };
      const why = error instanceof Error ? error.message : String(error);
      const replyType = error instanceof NbdServerError ? error.replyType : undefined;
      if (replyType !== undefined && replyType !== NBD_REP_ERR_SHUTDOWN) {
        const errno = (error as NbdServerError).errno ?? EIO;
        return { kind: 'refused', errno, gone: replyType === NBD_REP_ERR_UNKNOWN, why };
      }
      if (clock.now() >= end) return { kind: 'unreachable', why };
      if (attempt === 0) report.line(`${name}: cannot connect: ${why}; trying again`);
    }
    await clock.wait(Math.min(policy.nextPause(), Math.max(end - clock.now(), 0)), signal);
    if (signal.aborted) return { kind: 'stopped' };
  }
}
