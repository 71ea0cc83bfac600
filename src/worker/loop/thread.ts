// The common part of the threads: how they start, receive messages and end.
//
// A thread has no event loop while it works: the main thread wakes it through a pipe, and it takes the messages from
// the port itself.

import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { clearWakes } from '../../linux/pipe.js';

/**
 * Runs `run` with the settings in the first message, if it has any; `takeMessages` receives the later ones. A defect
 * is sent as a message of type `failed`. @throws Error in the main thread
 */
export function runThread<Settings>(run: (port: MessagePort, settings: Settings) => void): void {
  const port = parentPort;
  if (port === null) throw new Error('this file runs as a worker thread, started by spawn.ts');
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

/** Receives all new messages. @param wakeDescriptor read end of the pipe that announces them */
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
