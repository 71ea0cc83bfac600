// Produces every message of docs/operating/troubleshooting.md and compares it word for word.

import { mkdirSync, readFileSync, realpathSync, truncateSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { NBDFUSE } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requireProgram, requirePrograms } from '../../support/run/requires.js';
import { CASES, ELSEWHERE } from './troubleshooting-cases.js';

requirePrograms('nbdkit', 'qemu-nbd', 'psktool', 'perl', 'unshare', 'setpriv', 'zip');

const PAGE = readFileSync(
  fileURLToPath(new URL('../../../docs/operating/troubleshooting.md', import.meta.url)),
  'utf8',
);
const MESSAGES = [...PAGE.matchAll(/^\| `([^`]+)` \| [^|]+ \|$/gm)].map(([, message]) => message);

/** Durations differ each time. */
const timeless = (text: string): string => text.replace(/\d+\.\d s\b/g, 'N s');

const beginnings = [...Object.keys(CASES), ...Object.keys(ELSEWHERE)];
const caseOf = (message: string): string[] => beginnings.filter((one) => message.startsWith(one));

const SETUP = `exec 2>said
nbdfuse() { "$NODE" "$NBDFUSE" "$@"; }
`;

describe('troubleshooting page', () => {
  it('has a case for every message, and a message for every case', () => {
    expect(PAGE.match(/^\| `/gm)).toHaveLength(MESSAGES.length);
    expect(MESSAGES.filter((message) => caseOf(message).length !== 1)).toEqual([]);
    const used = MESSAGES.flatMap(caseOf);
    expect(beginnings.filter((one) => !used.includes(one))).toEqual([]);
  });

  const isElsewhere = (message: string): boolean => Object.hasOwn(ELSEWHERE, caseOf(message)[0]);

  it.each(MESSAGES.filter(isElsewhere))('matches another test: %s', (message) => {
    const test = new URL(`../${ELSEWHERE[caseOf(message)[0]]}.test.ts`, import.meta.url);
    expect(readFileSync(fileURLToPath(test), 'utf8')).toContain(`nbdfuse: ${message}`);
  });

  it.each(MESSAGES.filter((message) => !isElsewhere(message)))('matches the output: %s', async (message) => {
    const scope = createScope();
    mkdirSync(scope.path('dir'));
    writeFileSync(scope.path('disk.raw'), '');
    truncateSync(scope.path('disk.raw'), 1024 * 1024);
    writeFileSync(scope.path('text.qcow2'), 'text\n');
    const env = { NODE: process.execPath, NBDFUSE, SETPRIV: requireProgram('setpriv'), HOME: scope.folder };
    const [beginning] = caseOf(message);
    const script = `cd "${scope.folder}"\n${SETUP}${CASES[beginning]}`;
    await new Program(scope, 'bash', ['-c', script], { env }).ended;
    const said = readFileSync(scope.path('said'), 'utf8').replaceAll(realpathSync(scope.folder), '/here');
    expect(timeless(said).split('\n')).toContain(timeless(`nbdfuse: ${message}`));
  });
});
