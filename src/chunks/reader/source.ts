// Where units come from: a plain file, or a compressed one with its decoders.

import type { Task } from '../schedule/tasks.js';

/** The events that a source reports to the reader. */
export interface SourceEvents {
  /** A task has made its next unit. */
  made(task: Task, bytes: Uint8Array): void;
  /** A task cannot make its next unit: the file is damaged. @param partial the unit's bytes before the damage */
  damaged(task: Task, message: string, partial: Uint8Array | undefined): void;
  /** The same, and later units may be of other places of the image. */
  misplaced(task: Task, message: string): void;
  /** A task cannot go on now. */
  failed(task: Task, error: unknown): void;
  /** Counts bytes of the file that were fetched. */
  fetched(bytes: number): void;
}

/** Makes the units of tasks. */
export interface UnitSource {
  /** The most tasks that are worked on at the same time. */
  readonly maxOpen: number;
  open(task: Task): void;
  /** A task has a new goal or priority. */
  change(task: Task): void;
  close(task: Task): void;
}
