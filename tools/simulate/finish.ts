// The end of every history, without random choices: faults end, the server executes its commands, every
// request gets its reply; then the worker stops.

import type { Action } from './actions.js';
import type { Simulation, Source } from './simulation.js';

const RUN: Action = { do: 'run' };

/** Milliseconds that a request may take at most once the server works, and the worker to stop. */
const PATIENCE = 120_000;
const STEP = 50;

/** Milliseconds that the worker has for an orderly stop. */
const STOP_TIME = 60_000;

/** Connections made here have numbers from this on. */
const FIRST_CONNECTION = 1_000_000;

/** Requests made here have numbers from this on. */
const FIRST_ID = 2_000_000;

/** See the file's head. */
export class Finish implements Source {
  #nextConnection = FIRST_CONNECTION;
  #nextId = FIRST_ID;
  #waited = 0;
  #ran = false;
  #sentEnded = false;

  next(simulation: Simulation): Action | undefined {
    const { server, kernel } = simulation;
    simulation.ending = true;
    // The worker has its turn between any two steps.
    this.#ran = !this.#ran;
    if (!this.#ran) return RUN;
    if (!server.isFirst) return { do: 'restore' };
    if (!server.alive) {
      this.#sentEnded = !this.#sentEnded;
      return this.#sentEnded ? { do: 'ended' } : { do: 'start' };
    }
    if (server.frozen) return { do: 'thaw' };
    const cut = server.connections.find((one) => one.cut);
    if (cut !== undefined) return { do: 'mend', c: cut.c };
    const work = this.#work(simulation);
    if (work !== undefined) return work;
    const fsync = this.#fsync(simulation);
    if (fsync !== undefined) return fsync;
    this.#waited += STEP;
    if (this.#waited > PATIENCE) return undefined;
    if (kernel.pending.size === 0 && !simulation.stopSent && simulation.ready && !kernel.gone) {
      this.#waited = 0;
      return { do: 'stop', timeout: STOP_TIME };
    }
    return { do: 'advance', ms: STEP };
  }

  /** An fsync through a handle that must learn of an error. */
  #fsync({ kernel, stopSent, ready, syncErrors, lies, failed }: Simulation): Action | undefined {
    if (kernel.pending.size > 0 || kernel.gone || stopSent || !ready || lies) return undefined;
    for (const [file, errors] of syncErrors.entries()) {
      const [handle] = failed.has(file) ? [] : errors.due;
      if (handle === undefined) continue;
      this.#waited = 0;
      const place = { offset: 0, length: 0, direct: false, sync: false, hidden: false };
      return { do: 'fsync', id: this.#nextId++, file, handle, ...place };
    }
    return undefined;
  }

  /** The next step that needs no time to pass. */
  #work(simulation: Simulation): Action | undefined {
    const lost = simulation.slots.find(
      ({ connection, file }) => connection === undefined && !simulation.refused.has(file),
    );
    for (const { file } of simulation.slots) {
      // The main thread connects no more, or only to a disk that the worker refuses.
      const isGivenUp = !simulation.reconnects || simulation.refused.has(file);
      const isLost = simulation.slots.every((one) => one.file !== file || one.connection === undefined);
      if (isGivenUp && isLost && !simulation.failed.has(file)) return { do: 'fail', file };
    }
    if (simulation.reconnects && lost !== undefined)
      return { do: 'connect', c: this.#nextConnection++, file: lost.file, slot: lost.slot };
    for (const connection of simulation.server.connections) {
      const { c } = connection;
      if (connection.onTheWay > 0) return { do: 'deliver', c, bytes: 1e9 };
      // Commands on closed connections come last, after everything else.
      if (connection.client === 'closed' || connection.closed) continue;
      if (connection.toRead > 0) return { do: 'receive', c, bytes: 1e9 };
      for (const command of connection.commands) {
        if (command.executed && !command.replied) return { do: 'reply', c, key: command.key, pieces: 1 };
        if (!command.executed && simulation.server.toExecute(connection, command.key, false) !== undefined)
          return { do: 'execute', c, key: command.key, errno: 0 };
      }
      if (connection.atEnd) return { do: 'receive', c, bytes: 1 };
    }
    const [synced] = simulation.syncWanted;
    return synced === undefined ? undefined : { do: 'synced', file: synced, good: true };
  }
}

/** Lets the server carry out all that it ever received, after the worker has ended; the last connection first. */
export function landings(simulation: Simulation): void {
  const { server } = simulation;
  simulation.ending = true;
  for (const connection of [...server.connections].reverse()) {
    const { c } = connection;
    while (connection.toRead > 0 && simulation.apply({ do: 'receive', c, bytes: 1e9 })) {}
    for (const command of [...connection.commands])
      if (!command.executed) simulation.apply({ do: 'execute', c, key: command.key, errno: 0 });
  }
}
