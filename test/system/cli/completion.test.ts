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
    COMP_WORDS=(nbdfuse "$@"); COMP_CWORD=$#
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
    expect(await offered('image.raw', 'nbd')).toEqual(['nbd://', 'nbd+unix:///']);
    expect(await offered('image.raw', '--command', 'nbdki')).toContain('nbdkit');
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
