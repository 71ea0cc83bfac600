// The message of an error of Node's own APIs, without codes and system calls. Pure.
//
// Used by main.ts and report.ts. Loads no native code, since --help and --version need none.

import { getSystemErrorMap } from 'node:util';

/** `CODE: text, call 'path'`, the form of the errors of node:fs. */
const FORM = /^E[A-Z0-9]+: (.*), \w+(?: '(.*)')?$/s;

/** The message for a person: `path: no such file or directory`. The code of any other error becomes its text, too. */
export function plainText(error: NodeJS.ErrnoException): string {
  const { message, errno, code } = error;
  const [, text, path] = FORM.exec(message) ?? [];
  if (text !== undefined) return path === undefined ? text : `${path}: ${text}`;
  const [name, description] = getSystemErrorMap().get(errno ?? 0) ?? [];
  if (code === undefined || name !== code || description === undefined) return message;
  return message.replace(new RegExp(`:? ?\\b${code}\\b`), `: ${description}`);
}
