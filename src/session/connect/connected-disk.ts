// Makes the reconnector of a file, and gives it additional connections.

import { EIO } from '../../constants/errno.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import { ReconnectPolicy } from '../../transport/reconnect-policy.js';
import type { Backend } from '../backend/backend.js';
import { systemClock } from '../clock.js';
import type { Report, Settings } from '../settings.js';
import { type Connect, explainLoss, keepsWrites } from './lost-server.js';
import type { Disk } from './open-disk.js';
import { Reconnector } from './reconnect.js';

/** The parts of a reconnector. */
export interface ReconnectorParts {
  /** The file as the user would type it. */
  readonly name: string;
  readonly file: number;
  readonly disk: Pick<Disk, 'server' | 'info'>;
  /** How to connect again, if that is possible. */
  readonly connect: Connect | undefined;
  readonly backend: Backend;
  readonly settings: Settings;
  readonly report: Report;
}

/** Makes the reconnector of a file, which has no connection yet. */
export function createReconnector(parts: ReconnectorParts): Reconnector<NegotiatedConnection> {
  const { name, file, disk, connect, backend, settings, report } = parts;
  return new Reconnector<NegotiatedConnection>({
    name,
    info: disk.info,
    policy: new ReconnectPolicy(settings.reconnectMs, Math.random),
    clock: systemClock,
    report,
    connect,
    attach: (slot, connection) => backend.attach(file, slot, connection),
    fail: () => backend.fail(file, EIO),
    isOver: () => disk.server.hasEnded && !keepsWrites(disk.server, settings),
    explain: (why) => explainLoss(disk.server, why),
  });
}

/** Puts additional connections to use as they arrive. */
export function adoptFurther(
  further: Disk['further'],
  reconnector: Reconnector<NegotiatedConnection>,
  signal?: AbortSignal,
): void {
  further.forEach((arriving, i) => {
    const adopted = arriving.then((connection) => {
      if (signal?.aborted) connection?.close();
      else if (connection !== undefined) reconnector.attach(i + 1, connection);
    });
    // The file does without a connection that the server has closed meanwhile.
    adopted.catch(() => undefined);
  });
}
