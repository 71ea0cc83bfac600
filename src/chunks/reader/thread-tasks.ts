// The decoders of one decode thread. Pure but for the decoders.

import type { FromThread, ToThread } from './messages.js';
import { type Tell, ThreadTask } from './thread-task.js';

export class ThreadTasks {
  readonly #tasks = new Map<number, ThreadTask>();
  readonly #tell: Tell;

  constructor(tell: Tell) {
    this.#tell = tell;
  }

  take(message: ToThread): void {
    if (message.kind === 'open') this.#open(message);
    const task = this.#tasks.get(message.task);
    if (task === undefined) return;
    switch (message.kind) {
      case 'change':
        task.change(message.goal, message.priority);
        break;
      case 'input':
        task.push(message.bytes, message.isLast);
        break;
      case 'close':
        task.close();
        this.#tasks.delete(message.task);
        break;
      default:
    }
  }

  /** Lets the most urgent decoder that has input make at most one unit. False: there is none. */
  step(): boolean {
    let best: ThreadTask | undefined;
    for (const task of this.#tasks.values()) {
      if (task.canStep && (best === undefined || task.priority < best.priority)) best = task;
    }
    best?.step();
    return best !== undefined;
  }

  #open(message: Extract<ToThread, { kind: 'open' }>): void {
    try {
      this.#tasks.set(message.task, new ThreadTask(message, this.#tell));
    } catch (error) {
      // As a library that is not installed.
      this.#tell(failureOf(message, error));
    }
  }
}

function failureOf({ task, from }: Extract<ToThread, { kind: 'open' }>, error: unknown): FromThread {
  const message = error instanceof Error ? error.message : String(error);
  return {
    kind: 'failed',
    task,
    message,
    reason: undefined,
    in: from.in,
    out: from.out,
    partial: undefined,
  };
}
