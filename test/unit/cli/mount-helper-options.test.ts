// mount.fuse.nbdfuse passes on every option of nbdfuse that makes sense in fstab.

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { OPTION_GROUPS } from '../../../src/cli/arguments/options.js';

/** Options that fstab has in another form, or that belong to a command line. */
const ELSEWHERE = [
  ...['--export', '--readonly', '--print-command', '--foreground', '--daemon', '-o', '-s', '--unmount'],
  ...['--list', '--list-mounts', '--status', '--watch', '--json'],
];

it('mount helper: passes on each option of nbdfuse, and its manual page has it', () => {
  const script = readFileSync(new URL('../../../packaging/mount.fuse.nbdfuse', import.meta.url), 'utf8');
  const passed = [...script.matchAll(/^ {4}(.*)\) set -- "\$@" "--\$option" ;;$/gm)].flatMap(([, names]) =>
    names.split(' | '),
  );
  const groups = OPTION_GROUPS.filter(({ title }) => title !== 'Help').flatMap(({ options }) => options);
  const wanted = groups
    .filter(({ long, names }) => !ELSEWHERE.includes(long ?? names[0]))
    .flatMap(({ long, required, optional }) => {
      const name = (long ?? '').slice(2);
      return required ? [`${name}=*`] : optional ? [name, `${name}=*`] : [name];
    });
  expect(passed.sort()).toEqual(wanted.sort());
  // The manual page has each option: the ones with a value as `name=`.
  const page = readFileSync(
    new URL('../../../docs/reference/man/mount.fuse.nbdfuse.8.md', import.meta.url),
    'utf8',
  );
  for (const option of wanted.filter((one) => !['overlay=*', 'prefetch=*'].includes(one)))
    expect(page).toContain(`\`${option.replace('*', '')}\``);
});
