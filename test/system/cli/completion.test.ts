// The completions in the shells themselves.

import { mkdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { completionScript } from '../../../src/cli/arguments/completion.js';
import { OPTIONS } from '../../../src/cli/arguments/options.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('bash', 'zsh', 'fish', 'nbdkit');

/** The words that bash offers for the last of these. */
async function offered(...words: readonly string[]): Promise<readonly string[]> {
  const scope = createScope();
  writeFileSync(scope.path('image.raw'), '');
  const script = `
    cd ${scope.folder}
    source <(node ${NBDFUSE} --completion bash)
    COMP_WORDS=(nbdfuse "$@"); COMP_CWORD=$#; COMP_LINE="nbdfuse $*"; COMP_POINT=\${#COMP_LINE}
    _nbdfuse nbdfuse "\${@: -1}" "\${COMP_WORDS[COMP_CWORD-1]}"
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const text = await runProgram('bash', '-c', script, 'bash', ...words);
  return text.split('\n').filter((word) => word !== '');
}

describe('bash completion', () => {
  it('offers every option before MOUNTPOINT', async () => {
    const all = OPTIONS.flatMap(({ names }) => names);
    expect([...(await offered('-'))].sort()).toEqual([...all].sort());
    expect(await offered('--read')).toEqual(['--readonly', '--read-only']);
  });

  it('offers the values of an option that has a few', async () => {
    expect(await offered('--cache', 'write')).toEqual(['writeback', 'writethrough']);
    expect(await offered('--timeout', '')).toEqual([]);
  });

  it('offers files as MOUNTPOINT, also after options with values', async () => {
    expect(await offered('im')).toEqual(['image.raw']);
    expect(await offered('-C', '4', '-r', '--cache', 'none', 'im')).toEqual(['image.raw']);
  });

  it('offers ways to name a server after MOUNTPOINT, and commands after these options', async () => {
    expect(await offered('-r', 'image.raw', '--sock')).toEqual(['--socket-activation']);
    expect(await offered('image.raw', 'nbd')).toEqual([
      'nbd://',
      'nbds://',
      'nbd+unix:///',
      'nbd+vsock://',
      'nbd+ssh://',
    ]);
    expect(await offered('image.raw', '--command', 'nbdki')).toContain('nbdkit');
  });
});

/** The beginning of a command line, and the only completion of its last word. */
const VALUES: readonly (readonly [string, string])[] = [
  ['--cache=writeb', '--cache=writeback'],
  ['--cache writeb', 'writeback'],
];

/** The same for \`nbdfuse cache\`. */
const CACHE: readonly (readonly [string, string])[] = [
  ['cache pr', 'prune'],
  ['cache list --', '--json'],
  ['cache prune --', '--cache-size'],
  ['cache export --p', '--partial'],
  ['--cache-f', '--cache-file'],
  ['--pref', '--prefetch'],
];

/** In a directory with a disk and a directory: the beginning of a command line, and the whole line. */
const LINES: readonly (readonly [string, string])[] = [
  ['dir disk', 'dir disk.raw'],
  ['-r --cache none dir disk', '-r --cache none dir disk.raw'],
  ['dir nbds', 'dir nbds://'],
  ['dir nbd+v', 'dir nbd+vsock://'],
  ['dir --uni', 'dir --unix'],
  ['dir --unix disk', 'dir --unix disk.raw'],
  ['dir --uri nbds', 'dir --uri nbds://'],
  ['dir [ nbdkit disk', 'dir [ nbdkit disk.raw'],
  ['--list --sys', '--list --systemd-socket-activation'],
  ['--list --unix disk', '--list --unix disk.raw'],
  ['-o allow_o', '-o allow_other'],
  ['-o ro,noat', '-o ro,noatime'],
  ['--trace=disk', '--trace=disk.raw'],
  ['--cache-dir=di', '--cache-dir=dir/'],
  ['--cache-dir=disk', '--cache-dir=disk'],
  ['--metrics=u', '--metrics=unix:'],
  ['--metrics=unix:disk', '--metrics=unix:disk.raw'],
  ['--settle-time=n', '--settle-time=never'],
];

/** The same with an optional value, for which fish has no form. */
const OPTIONAL_VALUES: typeof LINES = [['--overlay=disk', '--overlay=disk.raw']];

function makeDirectory(): Scope {
  const scope = createScope();
  mkdirSync(scope.path('here'));
  mkdirSync(scope.path('here/dir'));
  writeFileSync(scope.path('here/disk.raw'), '');
  writeFileSync(scope.path('_nbdfuse'), completionScript('zsh'));
  writeFileSync(scope.path('script'), completionScript('fish'));
  return scope;
}

/** Types a line and a tab in zsh, whose nbdfuse prints its arguments between < and >. $1 is the folder of the script. */
const TYPE_IN_ZSH = String.raw`
zmodload zsh/zpty
zpty -b inner zsh -f -i
zpty -w inner "PS1=; autoload -Uz compinit; fpath=($1 \$fpath); compinit -u -D; compdef _nbdfuse nbdfuse
cd $2; unsetopt auto_remove_slash
bindkey '^I' complete-word; nbdfuse() { print -r -- \"<\$*>\" }; print rea''dy"
all=
while [[ $all != *ready* ]]; do zpty -r -t inner out && all+=$out || sleep 0.01; done
zpty -w -n inner "nbdfuse $3"$'\t\n'
all=
while [[ $all != *'<'*'>'* ]]; do zpty -r -t inner out && all+=$out || sleep 0.01; done
print -rn -- "<${'$'}{${'$'}{all##*<}%%>*}>"`;

/** The arguments of nbdfuse after a line and a tab in zsh. */
async function typeInZsh(scope: Scope, typed: string, folder = scope.path('here')): Promise<string> {
  const text = await runProgram('zsh', '-f', '-c', TYPE_IN_ZSH, 'zsh', scope.folder, folder, typed);
  return text.slice(1, -1);
}

/** The words that fish offers for the last one of a line. */
async function offeredByFish(scope: Scope, typed: string, folder = scope.path('here')): Promise<string[]> {
  const line = `source ${scope.path('script')}; cd ${folder}; complete -C 'nbdfuse ${typed}'`;
  const text = await runProgram('fish', '--no-config', '-c', line);
  const words = text.split('\n').map((one) => one.split('\t')[0]);
  return words.filter((word) => word !== '');
}

describe('completion of options and of nbdfuse cache', () => {
  it.each(CACHE)('bash completes %s to %s', async (typed, word) => {
    expect(await offered(...typed.split(' '))).toEqual([word]);
  });

  it('bash offers files to an action', async () => {
    expect(await offered('cache', 'list', 'im')).toEqual(['image.raw']);
    expect(await offered('cache', 'verify', '--')).toEqual([]);
  });

  it.each([...CACHE, ...VALUES])('fish completes %s to %s', async (typed, word) => {
    expect(await offeredByFish(makeDirectory(), typed)).toEqual([word]);
  });

  it.each([...CACHE, ...VALUES])('zsh completes %s to %s', async (typed, word) => {
    const whole = [...typed.split(' ').slice(0, -1), word].join(' ');
    expect(await typeInZsh(makeDirectory(), typed)).toBe(whole);
  });
});

describe('completion of servers, files and values', () => {
  it.each([...LINES, ...OPTIONAL_VALUES])('zsh completes %s to %s', async (typed, whole) => {
    expect(await typeInZsh(makeDirectory(), typed)).toBe(whole);
  });

  it.each(LINES)('fish completes %s to %s', async (typed, whole) => {
    const word = whole.split(' ').at(-1) ?? '';
    const isOffered = typed !== whole;
    expect(await offeredByFish(makeDirectory(), typed)).toEqual(isOffered ? [word] : []);
  });

  it('zsh and fish offer only mountpoints to --unmount and --status', async () => {
    const scope = makeDirectory();
    const server = ['[', 'nbdkit', 'null', '1M', ']'];
    await mountDisk(scope, { server });
    await mountDisk(scope, { server, options: ['-o', 'subtype=other'], name: 'renamed' });
    writeFileSync(scope.path('mnz'), '');
    for (const [typed, found] of [
      ['--unmount m', 'mnt'],
      ['--status --json r', 'renamed'],
      [`--unmount ${scope.folder}/m`, scope.path('mnt')],
    ]) {
      const whole = [...typed.split(' ').slice(0, -1), found].join(' ');
      expect(await typeInZsh(scope, typed, scope.folder)).toBe(whole);
      expect(await offeredByFish(scope, typed, scope.folder)).toEqual([found]);
    }
    expect(await typeInZsh(scope, '--unmount mnz', scope.folder)).toBe('--unmount mnz');
    expect(await offeredByFish(scope, '--unmount mnz', scope.folder)).toEqual([]);
  });
});

it.each([
  ['zsh', ['-n']],
  ['fish', ['--no-execute']],
] as const)('completion: %s accepts its script, which has all options', async (shell, words) => {
  const scope = createScope();
  const file = scope.path('script');
  const script = completionScript(shell);
  writeFileSync(file, script);
  expect(await tryProgram(shell, ...words, file)).toEqual({ status: 0, stdout: '', stderr: '' });
  for (const { names } of OPTIONS) {
    for (const name of names) expect(script).toContain(name.replace(/^--?/, ''));
  }
});

it('completion: refuses another shell in one line', async () => {
  expect(await tryProgram('node', NBDFUSE, '--completion', 'tcsh')).toEqual({
    status: 1,
    stdout: '',
    stderr: expect.stringMatching(/^nbdfuse: --completion .*bash.*zsh.*fish.*\n$/),
  });
});
