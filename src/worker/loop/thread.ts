// The common part of the threads: how they start, receive messages and end.
//
// A thread has no event loop while it works: the main thread wakes it through a pipe, and it takes the messages from
// the port itself.

import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { clearWakes } from '../../linux/pipe.js';
import { type Call, deliver, type Send, sender } from '../contract/call.js';
import type { FromIdleThread, FromThread, ToIdleThread } from '../contract/messages.js';

/**
 * Waits for `begin` or `dismiss`, and runs `run` if it is `begin`; `takeCalls` takes the later ones. A defect is
 * reported with `failed`. @throws Error in the main thread
 */
export function runThread<Settings>(run: (port: MessagePort, settings: Settings) => void): void {
  const port = parentPort;
  if (port === null) throw new Error('this file runs as a worker thread, started by spawn.ts');
  const send: Send<FromThread & FromIdleThread> = sender((call) => port.postMessage(call));
  const calls: ToIdleThread<Settings> = {
    report: () => send('loaded'),
    begin: (settings) => run(port, settings),
    dismiss: () => undefined,
  };
  const take = (call: Call<ToIdleThread<Settings>>): void => {
    if (call[0] !== 'report') port.off('message', take);
    try {
      deliver<ToIdleThread<Settings>>(call, calls);
    } catch (error) {
      send('failed', error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
    if (call[0] !== 'report') port.close();
  };
  port.on('message', take);
}

/** Takes all new calls. @param wakeDescriptor read end of the pipe that announces them */
export function takeCalls<Calls>(
  port: MessagePort,
  wakeDescriptor: number,
  take: (call: Call<Calls>) => void,
): void {
  clearWakes(wakeDescriptor);
  for (;;) {
    const received: { message: Call<Calls> } | undefined = receiveMessageOnPort(port);
    if (received === undefined) return;
    take(received.message);
  }
}
