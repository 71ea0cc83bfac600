// Reports the state of the mount to the service manager, as sd_notify(3) does.
//
// Used by process.ts. Does nothing without NOTIFY_SOCKET. Ignores messages that cannot be sent: the mount matters more
// than its state.

import { sendDatagram } from '../linux/datagram.js';
import { printable } from '../nbd/text.js';

/** Bytes of a status. */
const STATUS_LIMIT = 1000;

/** See the file's head. */
export class ServiceNotifier {
  readonly #socket: string | undefined;

  /** @param socket a path, or `@` and an abstract name; undefined: no service manager */
  constructor(socket: string | undefined) {
    this.#socket = socket === undefined || !/^[/@]/.test(socket) ? undefined : socket.replace(/^@/, '\0');
  }

  /** Takes NOTIFY_SOCKET out of the environment: servers that we start are not the service. */
  static take(environment: NodeJS.ProcessEnv): ServiceNotifier {
    const notifier = new ServiceNotifier(environment.NOTIFY_SOCKET);
    delete environment.NOTIFY_SOCKET;
    return notifier;
  }

  /** The files can be used. */
  ready(status: string): void {
    this.#send('READY=1', `MAINPID=${process.pid}`, statusLine(status));
  }

  /** The current state in one line. */
  status(text: string): void {
    this.#send(statusLine(text));
  }

  /** The session is stopping. */
  stopping(status: string): void {
    this.#send('STOPPING=1', statusLine(status));
  }

  #send(...lines: readonly string[]): void {
    if (this.#socket === undefined) return;
    try {
      sendDatagram(this.#socket, lines.join('\n'));
    } catch {
      // ENOENT, ECONNREFUSED, EAGAIN: nobody listens.
    }
  }
}

function statusLine(text: string): string {
  return `STATUS=${printable(text, STATUS_LIMIT)}`;
}
