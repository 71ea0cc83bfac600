// A qemu-storage-daemon whose exports come and go, by QMP commands.

import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { Program } from './run/program.js';
import type { Scope } from './run/scope.js';
import { until } from './run/until.js';

/** See the file's head. */
export class ChangingServer {
  readonly uri: string;
  readonly #qmp: Socket;
  #heard = '';
  #nodes = 0;

  private constructor(socket: string, qmp: Socket) {
    this.uri = `nbd+unix:///?socket=${socket}`;
    this.#qmp = qmp;
    qmp.on('data', (bytes: Buffer) => {
      this.#heard += bytes.toString();
      qmp.emit('heard');
    });
  }

  /** Starts one without exports. */
  static async start(scope: Scope): Promise<ChangingServer> {
    const [socket, monitor] = [scope.path('qsd.socket'), scope.path('qmp.socket')];
    new Program(scope, 'qemu-storage-daemon', [
      '--chardev',
      `socket,id=qmp,path=${monitor},server=on,wait=off`,
      '--monitor',
      'chardev=qmp',
      '--nbd-server',
      `addr.type=unix,addr.path=${socket},max-connections=0`,
    ]);
    await until('the sockets of qemu-storage-daemon', () => existsSync(socket) && existsSync(monitor));
    const qmp = connect(monitor);
    scope.add(() => qmp.destroy());
    await once(qmp, 'connect');
    const server = new ChangingServer(socket, qmp);
    await server.#command('qmp_capabilities', {});
    return server;
  }

  /** Exports a raw file under a name. */
  async add(name: string, file: string, writable = true): Promise<void> {
    const node = `node${this.#nodes++}`;
    await this.#command('blockdev-add', { driver: 'file', 'node-name': node, filename: file });
    await this.#command('block-export-add', {
      type: 'nbd',
      id: name,
      'node-name': node,
      name,
      writable,
    });
  }

  /** Removes an export while clients use it. */
  async remove(name: string): Promise<void> {
    this.#heard = '';
    await this.#command('block-export-del', { id: name, mode: 'hard' });
    await this.#hears(/"BLOCK_EXPORT_DELETED"/);
  }

  async #command(execute: string, words: object): Promise<void> {
    const id = `command${this.#nodes++}`;
    this.#qmp.write(`${JSON.stringify({ execute, arguments: words, id })}\n`);
    await this.#hears(new RegExp(`"id": "${id}"`));
    const answer = this.#heard.split('\n').find((line) => line.includes(`"id": "${id}"`)) ?? '';
    if (!answer.includes('"return"')) throw new Error(`qemu-storage-daemon, ${execute}: ${answer}`);
  }

  async #hears(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.#heard)) await once(this.#qmp, 'heard');
  }
}
