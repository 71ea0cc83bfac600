// Decides which chunks are decoded, in which order, and how far. Pure: no clocks, threads or bytes.
//
// A task is a decoder that makes the units of one chunk in order. It runs up to its goal, and may be given a further
// goal later, so that a chunk too large to be kept is decoded once for a reader in order. Invariants, which the
// simulator attacks: a unit that somebody waits for lies between the position and the goal of a task that is open or
// queued; at most `maxOpen` tasks are open; a task that nobody waits for never delays one that somebody waits for.

import { assert } from './assert.js';
import type { Chunk } from './chunk-map.js';

/** Why a unit is decoded; smaller numbers come first. */
export const DEMAND = 0;
export const AHEAD = 1;
export const TRACE = 2;
export const BACKGROUND = 3;
export type Priority = typeof DEMAND | typeof AHEAD | typeof TRACE | typeof BACKGROUND;

/** Units of a chunk that is decoded as a whole once it is begun, since its other units will be needed as well: 32 MiB. */
export const WHOLE = 128;

/** A decoder of one chunk. */
export interface Task {
  readonly id: number;
  readonly chunk: Chunk;
  priority: Priority;
  /** The next unit that it will make. */
  position: number;
  /** The unit behind the last one that it is to make. */
  goal: number;
  isOpen: boolean;
  /** When it was last given a goal: a rising number. */
  used: number;
}

/** The duties of the driver. */
export interface TaskDriver {
  /** Starts the decoder of a task. */
  open(task: Task): void;
  /** Tells the decoder of a task of its new goal or priority. */
  change(task: Task): void;
  /** Ends the decoder of a task. */
  close(task: Task): void;
}

/** The tasks of an image. */
export class Tasks {
  readonly #driver: TaskDriver;
  readonly #maxOpen: number;
  readonly #tasks = new Map<number, Task>();
  #ids = 0;
  #clock = 0;

  /** @param maxOpen the most decoders at the same time */
  constructor(driver: TaskDriver, maxOpen: number) {
    this.#driver = driver;
    this.#maxOpen = maxOpen;
  }

  get all(): Iterable<Task> {
    return this.#tasks.values();
  }

  /** The task that will make a unit. */
  taskFor(unit: number): Task | undefined {
    for (const task of this.#tasks.values()) {
      if (task.position <= unit && unit < task.goal) return task;
    }
    return undefined;
  }

  /**
   * Has a unit decoded. `chunk` is the one that the unit is in now; an older task's chunk may reach further, as long as
   * a pass over the file had not found the points in it.
   */
  want(unit: number, chunk: Chunk, priority: Priority): void {
    assert(chunk.first <= unit && unit < chunk.end, 'the unit is not in its chunk');
    this.#clock += 1;
    const task = this.#nearest(unit, chunk) ?? this.#add(chunk, priority);
    const isWhole = task.chunk.end - task.chunk.first <= WHOLE;
    const goal = Math.max(task.goal, isWhole ? task.chunk.end : unit + 1);
    const isNew = goal !== task.goal || priority < task.priority;
    task.goal = goal;
    task.priority = Math.min(task.priority, priority) as Priority;
    task.used = this.#clock;
    if (task.isOpen && isNew) this.#driver.change(task);
    this.#fill();
  }

  /** Notes that a task has made its next unit. */
  made(task: Task): void {
    assert(task.isOpen && task.position < task.goal, 'a task made a unit behind its goal');
    task.position += 1;
    if (task.position === task.chunk.end) this.remove(task);
    // A task that reaches its goal is idle, and demands come first again when it gets a new one.
    else if (task.position === task.goal) task.priority = BACKGROUND;
    this.#fill();
  }

  /** Ends a task: it failed, or its chunk is done. */
  remove(task: Task): void {
    if (!this.#tasks.delete(task.id)) return;
    if (task.isOpen) this.#driver.close(task);
    task.isOpen = false;
    this.#fill();
  }

  /** Ends the tasks of a priority that have not begun, and those that nobody waits for any more. */
  removeAll(priority: Priority): void {
    for (const task of [...this.#tasks.values()]) {
      if (task.priority === priority) this.remove(task);
    }
  }

  /** The task that reaches a unit soonest: one whose position is behind the chunk's beginning. */
  #nearest(unit: number, chunk: Chunk): Task | undefined {
    let best: Task | undefined;
    for (const task of this.#tasks.values()) {
      if (task.position > unit || unit >= task.chunk.end || task.position < chunk.first) continue;
      if (best === undefined || task.position > best.position) best = task;
    }
    return best;
  }

  #add(chunk: Chunk, priority: Priority): Task {
    this.#ids += 1;
    const { first } = chunk;
    const task = {
      id: this.#ids,
      chunk,
      priority,
      position: first,
      goal: first,
      isOpen: false,
      used: this.#clock,
    };
    this.#tasks.set(task.id, task);
    return task;
  }

  /** Opens queued tasks, the most urgent and oldest first, in the place of idle or less urgent ones where necessary. */
  #fill(): void {
    for (;;) {
      const queued = this.#pick((task) => !task.isOpen && task.position < task.goal);
      if (queued === undefined || !this.#makeRoom(queued.priority)) return;
      queued.isOpen = true;
      this.#driver.open(queued);
    }
  }

  #pick(isMeant: (task: Task) => boolean): Task | undefined {
    let best: Task | undefined;
    for (const task of this.#tasks.values()) {
      if (isMeant(task) && (best === undefined || task.priority < best.priority)) best = task;
    }
    return best;
  }

  /** Whether another task of this priority may be opened; ends an idle or less urgent one for it. */
  #makeRoom(priority: Priority): boolean {
    let count = 0;
    let victim: Task | undefined;
    for (const task of this.#tasks.values()) {
      if (!task.isOpen) continue;
      count += 1;
      if (isBusy(task) && task.priority <= priority) continue;
      if (victim === undefined || isLess(task, victim)) victim = task;
    }
    if (count < this.#maxOpen) return true;
    if (victim === undefined) return false;
    this.#tasks.delete(victim.id);
    victim.isOpen = false;
    this.#driver.close(victim);
    return true;
  }
}

const isBusy = ({ position, goal }: Task): boolean => position < goal;

/** Whether a task is a better one to end: idle, then less urgent, then longer unused. */
function isLess(a: Task, b: Task): boolean {
  if (isBusy(a) !== isBusy(b)) return !isBusy(a);
  if (isBusy(a) && a.priority !== b.priority) return a.priority > b.priority;
  return a.used < b.used;
}
