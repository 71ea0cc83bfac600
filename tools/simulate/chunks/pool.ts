// Decode threads whose messages and steps happen when the scheduler says so. The decoders are the real ones.

import type { DecodePool } from '../../../src/chunks/reader/decode-pool.js';
import type { FromThread, ToThread } from '../../../src/chunks/reader/messages.js';
import { ThreadTasks } from '../../../src/chunks/reader/thread-tasks.js';
import { assert } from '../../../src/chunks/schedule/assert.js';
import type { Scheduler } from './scheduler.js';

class SimulatedThread {
  readonly tasks: Set<number> = new Set();
  readonly #number: number;
  readonly #scheduler: Scheduler;
  readonly #onMessage: (message: FromThread) => void;
  readonly #work: ThreadTasks;
  readonly #arriving: ToThread[] = [];
  readonly #leaving: FromThread[] = [];
  #mayStep = false;

  constructor(number: number, scheduler: Scheduler, onMessage: (message: FromThread) => void) {
    this.#number = number;
    this.#scheduler = scheduler;
    this.#onMessage = onMessage;
    this.#work = new ThreadTasks((message) => {
      this.#leaving.push(message);
      scheduler.add(`a message of thread ${number}: ${message.kind} of task ${message.task}`, () =>
        this.#deliver(),
      );
    });
  }

  send(message: ToThread): void {
    this.#arriving.push(message);
    this.#scheduler.add(`thread ${this.#number} takes a message`, () => this.#take());
  }

  /** Frees the memory of the decoders. */
  end(): void {
    for (const task of this.tasks) this.#work.take({ kind: 'close', task });
  }

  #take(): void {
    const message = this.#arriving.shift();
    if (message === undefined) return;
    this.#work.take(message);
    if (this.#mayStep) return;
    this.#mayStep = true;
    this.#addStep();
  }

  #addStep(): void {
    this.#scheduler.add(`thread ${this.#number} works`, () => {
      this.#mayStep = this.#work.step();
      if (this.#mayStep) this.#addStep();
    });
  }

  #deliver(): void {
    const message = this.#leaving.shift();
    if (message !== undefined) this.#onMessage(message);
  }
}

/** See the file's head. */
export class SimulatedPool implements DecodePool {
  readonly threads: number;
  readonly #all: readonly SimulatedThread[];
  readonly #owners = new Map<number, SimulatedThread>();

  constructor(count: number, scheduler: Scheduler, onMessage: (message: FromThread) => void) {
    this.threads = count;
    this.#all = Array.from({ length: count }, (_, i) => new SimulatedThread(i, scheduler, onMessage));
  }

  /** Tasks that are open. */
  get open(): number {
    return this.#owners.size;
  }

  send(message: ToThread): void {
    const { task } = message;
    if (message.kind === 'open') {
      const least = this.#all.reduce((best, one) => (one.tasks.size < best.tasks.size ? one : best));
      least.tasks.add(task);
      this.#owners.set(task, least);
    }
    const owner = this.#owners.get(task);
    if (owner === undefined) return;
    assert(message.kind === 'close' || owner.tasks.has(task), 'a message for a task that is closed');
    owner.send(message);
    if (message.kind === 'close') this.#owners.delete(task);
  }

  close(): Promise<void> {
    this.end();
    return Promise.resolve();
  }

  end(): void {
    for (const thread of this.#all) thread.end();
  }
}
