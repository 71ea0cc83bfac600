#!/usr/bin/env node
// Makes docs/terminal.svg: runs a few commands on a terminal (script(1)) and draws the result.
//
// `npm run picture`, after a build; needs qemu-utils, e2fsprogs and fdisk. It understands only the emphasis
// of ECMA-48 (SGR): the commands use no other control sequences.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** An image with a partition, made before the recording. */
const SETUP = `truncate -s 10G disk.raw
echo ',,L' | sfdisk -q disk.raw
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2
rm disk.raw; mkdir dir`;

/** The commands of the picture, one per line. */
const COMMANDS = [
  'nbdfuse --daemon dir/disk.raw disk.qcow2',
  'ls -lh disk.qcow2 dir/disk.raw',
  'fdisk -l dir/disk.raw | tail -2',
  'cp --sparse=always dir/disk.raw copy.raw; du -h copy.raw',
  'nbdfuse --status dir',
  'nbdfuse --unmount dir',
];

const LINE = 19;
const CHARACTER = 8.43;
const COLUMNS = 96;
const MARGIN = 16;
/** Height of the window's upper edge. */
const BAR = 34;

/** The style that each SGR number begins; numbers that end a style are in ENDS. */
const BEGINS = { 1: ['bold'], 2: ['dim'], 31: ['red'], 32: ['green'] };
const ENDS = { 22: ['bold', 'dim'], 39: ['red', 'green'], 0: ['bold', 'dim', 'red', 'green'] };

const ESCAPE = '\u001b';
const SGR = new RegExp(`(${ESCAPE}\\[[\\d;]*m)`);
const WHOLE_SGR = new RegExp(`^${ESCAPE}\\[([\\d;]*)m$`);

const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** The parts of one line, each with its emphasis; `state` is the emphasis at the beginning. */
function spansOf(line, state) {
  return line
    .split(SGR)
    .map((part) => {
      const codes = WHOLE_SGR.exec(part);
      if (codes === null) {
        const names = [...state].join(' ');
        return part === '' ? '' : `<tspan${names === '' ? '' : ` class="${names}"`}>${escaped(part)}</tspan>`;
      }
      for (const code of codes[1].split(';')) {
        for (const name of ENDS[Number(code)] ?? []) state.delete(name);
        for (const name of BEGINS[Number(code)] ?? []) state.add(name);
      }
      return '';
    })
    .join('');
}

/** Draws the output of a terminal, as an SVG of a window. */
export function render(text) {
  const state = new Set();
  const lines = text.replaceAll('\r', '').replaceAll('\t', '    ').trimEnd().split('\n');
  const width = Math.ceil(COLUMNS * CHARACTER + 2 * MARGIN);
  const height = BAR + lines.length * LINE + MARGIN;
  const rows = lines.map((line, i) => {
    return `<text x="${MARGIN}" y="${BAR + (i + 1) * LINE - 5}" xml:space="preserve">${spansOf(line, state)}</text>`;
  });
  const dots = ['#ff5f57', '#febc2e', '#28c840'].map(
    (colour, i) => `<circle cx="${MARGIN + 6 + i * 20}" cy="17" r="6" fill="${colour}"/>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    '<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d8dee9}',
    '.bold{font-weight:bold;fill:#fff}.dim{fill:#8892a6}.green{fill:#a3be8c}.red{fill:#bf616a}</style>',
    `<rect width="${width}" height="${height}" rx="8" fill="#1e222a"/>`,
    ...dots,
    ...rows,
    '</svg>\n',
  ].join('\n');
}

/** Runs the session in a folder of its own. @throws Error when a command of it fails */
function session() {
  const folder = mkdtempSync(join(tmpdir(), 'nbdfuse-picture-'));
  const shown = COMMANDS.map((line) => {
    return `printf '\\033[32m$\\033[39m \\033[1m%s\\033[22m\\n' '${line}'\n${line}`;
  });
  const script = `set -euo pipefail; cd '${folder}'\n${SETUP}\n${shown.join('\n')}`;
  writeFileSync(join(folder, 'session'), script);
  const PATH = `${ROOT}bin:${process.env.PATH}:/usr/sbin:/sbin`;
  const env = { ...process.env, PATH, TERM: 'xterm-256color', LC_ALL: 'C.UTF-8', NO_COLOR: '' };
  try {
    const { status, stdout } = spawnSync('script', ['-qec', `bash '${folder}/session'`, '/dev/null'], {
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (status !== 0) throw new Error(`the session failed: ${stdout}`);
    return stdout;
  } finally {
    spawnSync('umount', ['-l', join(folder, 'dir')], { stdio: 'ignore' });
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(join(ROOT, 'docs/terminal.svg'), render(session()));
}
