// The decode threads of the chunk server, in the thread of a test: messages arrive in later turns, as from real ones.

import type { StartPool } from '../../../src/chunks/reader/decode-pool.js';
import { ThreadTasks } from '../../../src/chunks/reader/thread-tasks.js';

/** Starts one decode thread without a thread. */
export const startInlinePool: StartPool = (onMessage) => {
  let isClosed = false;
  const later = (act: () => void): void => {
    setImmediate(() => {
      if (!isClosed) act();
    });
  };
  const tasks = new ThreadTasks((message) => later(() => onMessage(message)));
  const open = new Set<number>();
  let isScheduled = false;
  const schedule = (): void => {
    if (isScheduled) return;
    isScheduled = true;
    later(() => {
      isScheduled = false;
      if (tasks.step()) schedule();
    });
  };
  return {
    threads: 2,
    send: (message) => {
      if (message.kind === 'open') open.add(message.task);
      if (message.kind === 'close') open.delete(message.task);
      later(() => {
        tasks.take(message);
        schedule();
      });
    },
    close: async () => {
      isClosed = true;
      for (const task of open) tasks.take({ kind: 'close', task });
    },
  };
};
