// nbdsh at a terminal, which script(1) makes.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'script');

const NBDSH = fileURLToPath(new URL('../../../bin/nbdsh', import.meta.url));
const PROMPT = 'nbd> ';
const CTRL_C = '\x03';
const CTRL_D = '\x04';
const UP = '\x1b[A';

/** A shell with a person at its terminal. */
class Terminal {
  readonly program: Program;
  readonly #input: NodeJS.WritableStream;
  #seen = 0;

  /** A terminal of kind `dumb` shows plain lines; others move the cursor. */
  constructor(scope: Scope, words: readonly string[], kind = 'dumb') {
    const command = [process.execPath, NBDSH, ...words].map((word) => `'${word}'`).join(' ');
    this.program = new Program(scope, 'script', ['-qec', command, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { TERM: kind, NO_COLOR: '1', NBDSH_HISTORY: scope.path('history') },
    });
    if (this.program.child.stdin === null) throw new Error('there is no pipe to the terminal');
    this.#input = this.program.child.stdin;
  }

  /** Types keys; a line ends with a return. */
  type(keys: string): void {
    this.#input.write(keys);
  }

  /** Resolves when the text has come since the last call; returns the output until then. */
  async shows(text: string): Promise<string> {
    const all = (): string => this.program.stdout;
    await until(
      `"${text}" in ${JSON.stringify(all().slice(this.#seen))}`,
      () => {
        return all().includes(text, this.#seen);
      },
      45_000,
    );
    const end = all().indexOf(text, this.#seen) + text.length;
    const came = all().slice(this.#seen, end);
    this.#seen = end;
    return came;
  }

  /** Types a line; returns the output before the next prompt. */
  async answer(line: string): Promise<string> {
    this.type(`${line}\r`);
    await this.shows(`${line}\r`);
    return (await this.shows(PROMPT)).slice(0, -PROMPT.length).trim();
  }
}

it('nbdsh terminal: reads, writes, waits, shows errors, and ends at Ctrl-D', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, '--filter=exitlast', 'memory', '1M');
  const terminal = new Terminal(scope, ['-u', server.uri()]);
  expect(await terminal.shows(PROMPT)).toContain('Connected as h, 1048576 bytes');
  expect(await terminal.answer('h.size')).toBe('1048576n');
  expect(await terminal.answer('print(h.size, "bytes")')).toMatch(/^1048576 bytes/);
  expect(await terminal.answer('await h.write(10, Buffer.from("hello"))')).toBe('undefined');
  expect(await terminal.answer('const bytes = await h.read(10, 5)')).toBe('undefined');
  expect(await terminal.answer('bytes.toString()')).toBe("'hello'");
  expect(await terminal.answer('nothing.here')).toMatch(/^Uncaught ReferenceError: nothing is not defined$/);
  expect(await terminal.answer('await h.read(h.size, 1)')).toMatch(
    /^Uncaught NbdArgumentError: bytes 1048576 to .*$/,
  );
  terminal.type(CTRL_D);
  expect(await terminal.program.ended).toBe(0);
  // It disconnected in order, so the server has no client left.
  expect(await server.program.ended).toBe(0);
});

it('nbdsh terminal: Ctrl-C cancels a pending call, and clears a line', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, '--filter=delay', 'memory', '1M', 'rdelay=3600');
  const terminal = new Terminal(scope, ['-u', server.uri()]);
  await terminal.shows(PROMPT);
  terminal.type('await new Promise(() => undefined)\r');
  await terminal.shows('undefined)\r');
  await until(
    'the terminal to give signals',
    async () => {
      terminal.type(CTRL_C);
      await new Promise((next) => setTimeout(next, 50));
      return terminal.program.stdout.includes('interrupted');
    },
    45_000,
  );
  await terminal.shows('interrupted');
  await terminal.shows(PROMPT);
  terminal.type(`half a line${CTRL_C}`);
  await terminal.shows(PROMPT);
  expect(await terminal.answer('1 + 1')).toBe('2');
  terminal.type(CTRL_D);
  expect(await terminal.program.ended).toBe(0);
});

it('nbdsh terminal: the next session has the history', async () => {
  const scope = createScope();
  const first = new Terminal(scope, []);
  expect(await first.shows(PROMPT)).toContain('Connect with: h = await NbdClient.connect');
  expect(await first.answer('6 * 7')).toBe('42');
  first.type('.exit\r');
  expect(await first.program.ended).toBe(0);
  expect(readFileSync(scope.path('history'), 'utf8')).toContain('6 * 7');
  const second = new Terminal(scope, [], 'xterm');
  await second.shows(PROMPT);
  second.type(UP);
  await second.shows('.exit');
  second.type(`${UP}\r`);
  await second.shows('42');
  second.type(CTRL_D);
  expect(await second.program.ended).toBe(0);
});

it('nbdsh terminal: at the end nbdsh closes clients that the user created', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, '--filter=exitlast', 'memory', '1M');
  const terminal = new Terminal(scope, []);
  await terminal.shows(PROMPT);
  await terminal.answer(`h = await NbdClient.connect("${server.uri()}"), 0`);
  expect(await terminal.answer('h.size')).toBe('1048576n');
  terminal.type(CTRL_D);
  expect(await terminal.program.ended).toBe(0);
  expect(await server.program.ended).toBe(0);
});

it('nbdsh terminal: says that it waits for a silent server', async () => {
  const scope = createScope();
  const path = scope.path('sock');
  const server = createServer(() => undefined).listen(path);
  scope.add(() => server.close());
  const uri = `nbd+unix:///?socket=${path}`;
  const terminal = new Terminal(scope, ['-u', uri]);
  await terminal.shows(`nbdsh: waiting for the server to answer: ${uri}\r\n`);
  await terminal.program.kill('SIGTERM');
});
