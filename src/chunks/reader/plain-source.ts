// The units of a file that is not compressed: each is a read.

import type { Input } from '../contract/coding.js';
import { compact, lengthOfUnit, UNIT } from '../contract/units.js';
import type { Task } from '../schedule/tasks.js';
import type { SourceEvents, UnitSource } from './source.js';

export class PlainSource implements UnitSource {
  readonly maxOpen: number;
  readonly #input: Input;
  readonly #events: SourceEvents;

  constructor(input: Input, events: SourceEvents) {
    this.#input = input;
    this.#events = events;
    this.maxOpen = input.parallel;
  }

  open(task: Task): void {
    void this.#read(task);
  }

  // A read ends without help, and cannot be hurried.
  change(): void {}
  close(): void {}

  async #read(task: Task): Promise<void> {
    const { position: unit } = task;
    try {
      const bytes = await this.#input.read(unit * UNIT, lengthOfUnit(unit, this.#input.size));
      this.#events.fetched(bytes.length);
      if (task.isOpen) this.#events.made(task, compact(bytes));
    } catch (error) {
      if (task.isOpen) this.#events.failed(task, error);
    }
  }
}
