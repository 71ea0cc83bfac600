// Asks the user for code, line by line: Node's REPL with the shell's names in it.
//
// Called by main.ts where standard input is a terminal. What was typed is remembered from one time to the
// next. Ctrl-C calls off what is being waited for, and clears the line; Ctrl-D ends.

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

/** Where lines are remembered: the file in NBDSH_HISTORY, nowhere when that is empty. */
function historyFile(): string {
  return process.env.NBDSH_HISTORY ?? join(homedir(), '.nbdsh_history');
}

/** A result as it is shown; an error in one line, whose stack is in `_error`. */
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
  // `.clear` makes the context anew.
  server.on('reset', fill);
}

/** Resolves when the user has had enough, and the client that is `h` then is closed. */
export async function converse(scope: ShellScope): Promise<void> {
  process.stdout.write(banner(scope));
  // By this the REPL decides whether an error stands on the same line as `Uncaught`.
  writer.options.breakLength = Number.POSITIVE_INFINITY;
  const server: REPLServer = start({
    prompt: PROMPT,
    breakEvalOnSigint: true,
    writer: (value: unknown) => shown(value, server.useColors),
  });
  prepare(server, scope);
  const ended = once(server, 'exit');
  const history = historyFile();
  // Without its file the lines of this time are remembered all the same; the REPL says why.
  if (history !== '') server.setupHistory(history, () => undefined);
  await ended;
  const { h }: { h?: unknown } = server.context;
  if (h instanceof NbdClient) await h.close();
}
