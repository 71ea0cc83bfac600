// The interactive mode: Node's REPL with the shell's names.
//
// Used if standard input is a terminal. The history is kept in a file. Ctrl-C interrupts a pending await and clears the
// line; Ctrl-D exits.

import { once } from 'node:events';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type REPLServer, start, writer } from 'node:repl';
import { inspect } from 'node:util';
import { NbdClient } from '../client/client.js';
import { printable } from '../nbd/text.js';
import { messageOf } from './message.js';
import type { ShellScope } from './scope.js';

const PROMPT = 'nbd> ';

function banner(scope: ShellScope): string {
  const connected =
    scope.h instanceof NbdClient
      ? `Connected as h, ${scope.h.size} bytes: try h.info, await h.read(0, 512)`
      : "Connect with: h = await NbdClient.connect('nbd://HOST/NAME')";
  return `${connected}\nEnd with Ctrl-D\n`;
}

/** Path of the history file, from NBDSH_HISTORY; empty: no file. */
function historyFile(): string {
  return process.env.NBDSH_HISTORY ?? join(homedir(), '.nbdsh_history');
}

/** A result as text; an error as one line, with its stack in `_error`. */
function shown(value: unknown, colors: boolean): string {
  if (!(value instanceof Error)) return inspect(value, { colors });
  const text = printable(messageOf(value));
  return text.startsWith(value.name) ? text : `${value.name}: ${text}`;
}

function prepare(server: REPLServer, scope: ShellScope): void {
  const fill = (): void => {
    Object.assign(server.context, scope);
  };
  fill();
  // `.clear` makes a new context.
  server.on('reset', fill);
}

/** Runs the REPL. Resolves when the user exits and the client in `h` is closed. */
export async function converse(scope: ShellScope): Promise<void> {
  process.stdout.write(banner(scope));
  // The REPL decides by this whether an error is on the same line as `Uncaught`.
  writer.options.breakLength = Number.POSITIVE_INFINITY;
  const server: REPLServer = start({
    prompt: PROMPT,
    breakEvalOnSigint: true,
    writer: (value: unknown) => shown(value, server.useColors),
  });
  prepare(server, scope);
  const ended = once(server, 'exit');
  const history = historyFile();
  // Without the file the history lasts for this session only; the REPL reports the reason.
  if (history !== '') server.setupHistory(history, () => undefined);
  await ended;
  const { h }: { h?: unknown } = server.context;
  if (h instanceof NbdClient) await h.close();
}
