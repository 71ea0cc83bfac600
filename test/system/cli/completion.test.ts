// The completions in the shells themselves.

import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { completionScript } from '../../../src/cli/arguments/completion.js';
import { OPTIONS } from '../../../src/cli/arguments/options.js';
import { createScope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('bash', 'zsh', 'fish');

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
    expect(await offered('--reconnect', '')).toEqual([]);
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

/** Types a line and a tab in zsh, whose nbdfuse prints its arguments between < and >. $1 is the folder of the script. */
const TYPE_IN_ZSH = String.raw`
zmodload zsh/zpty
zpty -b inner zsh -f -i
zpty -w inner "PS1=; autoload -Uz compinit; fpath=($1 \$fpath); compinit -u -D; compdef _nbdfuse nbdfuse
bindkey '^I' complete-word; nbdfuse() { print -r -- \"<\$*>\" }; print rea''dy"
all=
while [[ $all != *ready* ]]; do zpty -r -t inner out && all+=$out || sleep 0.01; done
zpty -w -n inner "nbdfuse $2"$'\t\n'
all=
while [[ $all != *'<'*'>'* ]]; do zpty -r -t inner out && all+=$out || sleep 0.01; done
print -rn -- "<${'$'}{${'$'}{all##*<}%%>*}>"`;

describe('completion of options and of nbdfuse cache', () => {
  it.each(CACHE)('bash completes %s to %s', async (typed, word) => {
    expect(await offered(...typed.split(' '))).toEqual([word]);
  });

  it('bash offers files to an action', async () => {
    expect(await offered('cache', 'list', 'im')).toEqual(['image.raw']);
    expect(await offered('cache', 'verify', '--')).toEqual([]);
  });

  it.each([...CACHE, ...VALUES])('fish completes %s to %s', async (typed, word) => {
    const scope = createScope();
    writeFileSync(scope.path('script'), completionScript('fish'));
    const line = `source ${scope.path('script')}; cd ${scope.folder}; complete -C 'nbdfuse ${typed}'`;
    const text = await runProgram('fish', '--no-config', '-c', line);
    expect(text.trimEnd().split('\n')).toEqual([expect.stringMatching(new RegExp(`^${word}(\t|$)`))]);
  });

  it.each([...CACHE, ...VALUES])('zsh completes %s to %s', async (typed, word) => {
    const scope = createScope();
    writeFileSync(scope.path('_nbdfuse'), completionScript('zsh'));
    const text = await runProgram('zsh', '-f', '-c', TYPE_IN_ZSH, 'zsh', scope.folder, typed);
    expect(text).toBe(`<${[...typed.split(' ').slice(0, -1), word].join(' ')}>`);
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
