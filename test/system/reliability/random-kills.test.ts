// nbdfuse ends at a hundred random moments of its life, by signals that it cannot handle and by others: no
// process, socket or folder is left, no mount hangs, and the next start on the same mountpoint works.

import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { startNbdfuse } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { mountsBelow, processesOf } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'dd', 'timeout');

const MOUNTS = 4;
const KILLS_PER_MOUNT = 25;
/** Upper limit in milliseconds of a start on this machine. */
const START_TIME = 500;

const SIGNALS: readonly NodeJS.Signals[] = [
  'SIGKILL',
  'SIGKILL',
  'SIGKILL',
  'SIGSEGV',
  'SIGABRT',
  'SIGTERM',
  'SIGINT',
  'SIGHUP',
];

function oneOf<T>(choices: readonly T[]): T {
  return choices[Math.floor(Math.random() * choices.length)];
}

/** One mountpoint on which nbdfuse is started and ended again and again. */
class KilledMount {
  readonly #scope: Scope;
  readonly #servers: readonly (readonly string[])[];
  readonly #mountpoint: string;
  readonly #pidfile: string;
  readonly #temporary: string;
  /** The current step, for messages. */
  story = '';

  constructor(scope: Scope, uri: string) {
    this.#scope = scope;
    this.#servers = [
      [uri],
      ['[', 'nbdkit', '-f', 'memory', '16M', ']'],
      ['--command', 'nbdkit', '-s', 'memory', '16M'],
    ];
    this.#mountpoint = scope.path('mnt');
    this.#pidfile = scope.path('pid');
    this.#temporary = scope.path('tmp');
    mkdirSync(this.#mountpoint);
    mkdirSync(this.#temporary);
  }

  #start(): Program {
    rmSync(this.#pidfile, { force: true });
    const server = oneOf(this.#servers);
    this.story = server.slice(0, 2).join(' ');
    const words = ['-P', this.#pidfile, this.#mountpoint, ...server];
    return startNbdfuse(this.#scope, words, { program: { env: { TMPDIR: this.#temporary } } });
  }

  /** Starts, and ends it at a random moment of a random part of its life. */
  async killOnce(): Promise<void> {
    const signal = oneOf(SIGNALS);
    const part = Math.random();
    const program = this.#start();
    if (part < 0.5) {
      const moment = Math.random() * START_TIME;
      this.story += `: ${signal} ${moment.toFixed(1)} ms after the start`;
      await delay(moment);
    } else {
      await program.fills(this.#pidfile);
      const words = [`of=${this.#mountpoint}/nbd`, 'if=/dev/zero', 'bs=64k', 'count=200'];
      words.push('conv=notrunc,nocreat');
      new Program(this.#scope, 'dd', oneOf([words, [...words, 'oflag=direct']]));
      const moment = Math.random() * 100;
      await delay(moment);
      this.story += `: ${signal} ${moment.toFixed(1)} ms into its work`;
      if (part > 0.8) {
        program.child.kill('SIGTERM');
        const later = Math.random() * 50;
        await delay(later);
        this.story += `, ${later.toFixed(1)} ms after SIGTERM`;
      }
    }
    await program.kill(signal);
    await this.#expectNothing();
  }

  /** No process and no directory is left, and at most a dead mount. */
  async #expectNothing(): Promise<void> {
    const { folder } = this.#scope;
    let left: { command: string }[] = [];
    const isEmpty = async (): Promise<boolean> => {
      left = await processesOf(folder);
      return left.length === 0;
    };
    await until('the end of all processes', isEmpty, 8000).catch((error: unknown) => {
      throw new Error(left.map(({ command }) => command).join('; '), { cause: error });
    });
    expect(readdirSync(this.#temporary)).toEqual([]);
    const [mounted] = await mountsBelow(folder);
    if (mounted === undefined) return;
    const looked = await tryProgram('timeout', '-s', 'KILL', '5', 'ls', mounted);
    expect(looked.stderr).toMatch(/not connected/);
  }

  /** A last start, which must work and end in order. */
  async finish(): Promise<void> {
    const program = this.#start();
    await program.fills(this.#pidfile);
    await runProgram('dd', `if=${this.#mountpoint}/nbd`, 'of=/dev/null', 'bs=1M', 'count=1');
    expect(await program.kill('SIGTERM')).toBe(0);
    expect(existsSync(this.#pidfile)).toBe(false);
    expect(await mountsBelow(this.#scope.folder)).toEqual([]);
  }
}

it('random kills: nothing is left at any of a hundred random moments', async () => {
  const server = await startNbdkit(createScope(), 'memory', '16M');
  const mounts = Array.from({ length: MOUNTS }, () => new KilledMount(createScope(), server.uri()));
  await Promise.all(
    mounts.map(async (mount) => {
      try {
        for (let i = 0; i < KILLS_PER_MOUNT; i++) await mount.killOnce();
        await mount.finish();
      } catch (error) {
        throw new Error(mount.story, { cause: error });
      }
    }),
  );
}, 300_000);
