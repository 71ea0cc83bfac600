// One history from its beginning to its end: the worker runs in the simulated world, and the remains are
// checked.

import type { StopOutcome } from '../../src/worker/contract/messages.js';
import { MountWorker } from '../../src/worker/mount-worker.js';
import type { Action } from './actions.js';
import type { Coverage } from './coverage.js';
import { Finish, landings } from './finish.js';
import { Generator } from './generator.js';
import { freeAreas } from './memory.js';
import type { Profile } from './profile.js';
import { Simulation, type Source } from './simulation.js';
import { UNIT } from './units.js';
import { Violation } from './violation.js';

/** Ranges that the worker names at most when it stops. */
const MOST_RANGES = 16;

/** The outcome of a history. */
export interface Result {
  readonly violation: Violation | undefined;
  readonly steps: readonly Action[];
  /** A number that is the same for the same history. */
  readonly digest: number;
  readonly coverage: Coverage;
}

/** A history of a generator. */
export function generate(profile: Profile, most: number, log?: string[]): Result {
  return play(profile, new Generator(profile, most, new Finish()), log);
}

/** A history from a list of steps, and the usual end. */
export function replay(profile: Profile, steps: readonly Action[], log?: string[]): Result {
  const end = new Finish();
  let at = 0;
  return play(
    profile,
    { next: (simulation) => (at < steps.length ? steps[at++] : end.next(simulation)) },
    log,
  );
}

function play(profile: Profile, source: Source, log: string[] | undefined): Result {
  freeAreas();
  const simulation = new Simulation(profile, source, log);
  let violation: Violation | undefined;
  try {
    const worker = new MountWorker(simulation.settings, simulation.world);
    simulation.isKnown = (file) => worker.disks[file].identity.samples.length > 0;
    simulation.mayLose = (file) => worker.disks[file].mayLose;
    simulation.isReplaying = (file) =>
      worker.disks[file]?.unflushed.list().some(({ replayed }) => replayed) === true;
    simulation.seeStates = () => countStates(worker, simulation.coverage);
    worker.run();
    checkEnd(simulation, worker);
  } catch (error) {
    violation =
      error instanceof Violation
        ? error
        : new Violation('crash', error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  return { violation, steps: simulation.steps, digest: simulation.digest, coverage: simulation.coverage };
}

/** The most important states, with the number of turns of the worker that end in them. */
function countStates({ disks }: MountWorker, coverage: Coverage): void {
  for (const disk of disks) {
    const { lost, order, closing, unflushed, connections } = disk;
    if (lost.any) coverage.count('state: a lost change may still be made');
    if (disk.awaitsProof) coverage.count('state: a change waits for proof');
    if (closing.length > 0) coverage.count('state: a connection that was given up is read');
    if (order.waiting.length > 0) coverage.count('state: a request waits for a change');
    if (unflushed.incomplete) coverage.count('state: more was written than is remembered');
    if (disk.waiting && connections.length > 0) coverage.count('state: a connection is not used yet');
    if (unflushed.list().some(({ replayed }) => replayed))
      coverage.count('state: unflushed writes are sent again');
    if (disk.node.errors.unseen) coverage.count('state: the next fsync tells of a loss');
  }
}

function checkEnd(simulation: Simulation, worker: MountWorker): void {
  const { kernel, outcome } = simulation;
  if (outcome === undefined) throw new Violation('crash', 'the worker has ended without a word');
  const isOrderly = outcome.unwrittenBytes === 0 && outcome.reason === '';
  simulation.coverage.count(isOrderly ? 'end: orderly' : `end: ${outcome.reason}`);
  if (kernel.pending.size > 0 && isOrderly && [...kernel.pending.values()].some(({ taken }) => taken))
    throw new Violation('no reply', `#${[...kernel.pending.keys()].join(', #')} had no reply`);
  // After an early unmount the worker does not wait for the replies to abandoned requests.
  if (isOrderly && !kernel.gone) checkLeftovers(worker);
  landings(simulation);
  for (const checker of simulation.checkers) checker.givesUp();
  simulation.server.kill(0);
  if (!simulation.lies) checkDisks(simulation, outcome);
}

/**
 * The stable disks have all that was acknowledged, except what the outcome or an earlier report names as lost.
 * @throws Violation
 */
function checkDisks(simulation: Simulation, { unwrittenBytes, ranges, reason }: StopOutcome): void {
  const isUnwritten = unitsOf(ranges);
  // A worker that keeps no writes cannot name them; it names the reason.
  const namesNone = !simulation.reconnects && reason !== '';
  const namesAll = ranges.length < MOST_RANGES;
  let missing = 0;
  simulation.server.first.forEach((disk, file) => {
    const checker = simulation.checkers[file];
    // The session ends with an error if it does not connect again.
    const mayLose = namesNone || (!simulation.reconnects && simulation.failed.has(file));
    disk.stable.forEach((content, unit) => {
      const isNamed = isUnwritten(unit);
      if (!namesAll && !mayLose && checker.isMissing(unit, content)) missing++;
      checker.isOnDisk(unit, content, mayLose || isNamed || !namesAll);
    });
  });
  if (missing * UNIT > unwrittenBytes)
    throw new Violation(
      'silent loss',
      `the worker stops with ${unwrittenBytes} bytes unwritten, but ${missing * UNIT} are`,
    );
}

/** The units of ranges like `offset 4096 length 512`, of any file. */
function unitsOf(ranges: readonly string[]): (unit: number) => boolean {
  const pairs = ranges.map((text) => /offset (\d+) length (\d+)/.exec(text)?.slice(1).map(Number) ?? [0, 0]);
  return (unit) =>
    pairs.some(([offset, length]) => unit * UNIT < offset + length && (unit + 1) * UNIT > offset);
}

/** In an orderly end nothing is left anywhere. */
function checkLeftovers({ engine, disks }: MountWorker): void {
  const wrong = (what: string): never => {
    throw new Violation('left over', `at the end there is ${what}`);
  };
  if (engine.requests.busy) wrong('a request');
  const kept = disks.reduce((sum, { unflushed }) => sum + unflushed.list().length, 0);
  const commandsInUse = engine.commands.inUse();
  const commands = commandsInUse.length;
  // The worker may still compare the disk on a new connection.
  const isIdentifying = commandsInUse.some(({ waiter }) => waiter !== undefined);
  if (engine.requests.count === 0 && !isIdentifying && commands !== kept)
    wrong(`${commands} commands, of which ${kept} are kept`);
  if (disks.some(({ can, unflushed }) => can.flush && !unflushed.empty))
    wrong('a write that no FLUSH has covered');
  if (disks.some(({ order }) => order.isChanging || order.waiting.length > 0)) wrong('a change');
  if (disks.some(({ closing }) => closing.length > 0)) wrong('a connection that is still read');
  // Read-ahead and the search for holes may still wait for the server.
  if (engine.requests.count > 0 || kept > 0 || isIdentifying) return;
  const { inUse } = engine.buffers;
  if (inUse !== engine.device.buffer.capacity)
    wrong(`${inUse} bytes of blocks, where the device has ${engine.device.buffer.capacity}`);
}
