// Telling the service manager how the mount is: systemd's way, sd_notify(3).
//
// Used by process.ts. Where no NOTIFY_SOCKET is given nothing is done; what cannot be sent is lost, since
// a mount is worth more than word of it.

import { sendDatagram } from '../linux/datagram.js';
import { printable } from '../nbd/text.js';

/** Bytes of a status. */
const STATUS_LIMIT = 1000;

/** See the file's head. */
export class ServiceNotifier {
  readonly #socket: string | undefined;

  /** @param socket a path, or `@` and an abstract name; undefined for nobody to tell */
  constructor(socket: string | undefined) {
    this.#socket = socket === undefined || !/^[/@]/.test(socket) ? undefined : socket.replace(/^@/, '\0');
  }

  /** Of the environment, from which it is taken: servers that we start are not the service. */
  static take(environment: NodeJS.ProcessEnv): ServiceNotifier {
    const notifier = new ServiceNotifier(environment.NOTIFY_SOCKET);
    delete environment.NOTIFY_SOCKET;
    return notifier;
  }

  /** The files can be used. */
  ready(status: string): void {
    this.#send('READY=1', `MAINPID=${process.pid}`, statusLine(status));
  }

  /** What there is to know now. */
  status(text: string): void {
    this.#send(statusLine(text));
  }

  /** The end has begun. */
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
