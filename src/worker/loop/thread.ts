// What the bridge's threads have in common: how they get their work and their messages, and how they end.
//
// A thread has no event loop of its own while it works: the main thread wakes it through a pipe, and it takes the
// messages out of the port.

import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { clearWakes } from '../../linux/pipe.js';

/**
 * Does the work that the first message brings, if it brings any; the messages after it are taken by `takeMessages`.
 * A defect is told as a message of the type `failed`. @throws Error in the main thread
 */
export function runThread<Settings>(run: (port: MessagePort, settings: Settings) => void): void {
  const port = parentPort;
  if (port === null) throw new Error('this file is a thread of the bridge, started by spawn.ts');
  port.once('message', (settings: Settings | undefined) => {
    try {
      if (settings !== undefined) run(port, settings);
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      port.postMessage(['failed', text]);
    }
    port.close();
  });
}

/** Takes the messages that have come since. @param wakeDescriptor read end of the pipe that told of them */
export function takeMessages<Message>(
  port: MessagePort,
  wakeDescriptor: number,
  hear: (message: Message) => void,
): void {
  clearWakes(wakeDescriptor);
  for (;;) {
    const received: { message: Message } | undefined = receiveMessageOnPort(port);
    if (received === undefined) return;
    hear(received.message);
  }
}
