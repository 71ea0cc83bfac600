// Images on the command line: recognizing one, the image options, and the output of --print-command.

import { describe, expect, it } from 'vitest';
import { parseArguments } from '../../../src/cli/arguments/arguments.js';
import { longCommand } from '../../../src/cli/arguments/image.js';
import { createScope } from '../../support/cleanup.js';
import { convertTo, createRaw, hashOf } from '../../support/images.js';
import { runProgram, runShell } from '../../support/run/command.js';
import { NBDFUSE, startNbdfuse } from '../../support/run/mount.js';

const PREPARED = {
  argv: ['qemu-nbd', '-f', 'raw', "it's.img"],
  lines: [],
  detail: '',
  before: undefined,
  passwordFile: undefined,
  undo: async () => undefined,
};

describe('word after MOUNTPOINT', () => {
  it.each(['disk.img', 'a:b', './nbd:x', 'https://h/d', 'ssh://h/d', 'localhost', '/dev/sda'])(
    'is an image: %s',
    (word) => {
      expect(parseArguments(['dir', word])).toMatchObject({ kind: 'image', image: { name: word } });
    },
  );

  it.each(['nbd://h', 'nbds+unix:///x', 'NBD://h', 'nbd:unix:x'])('is a URI: %s', (word) => {
    expect(parseArguments(['dir', word])).toMatchObject({ kind: 'mount' });
  });

  it('is an image also as a URI when an option for images is given', () => {
    const request = parseArguments(['--overlay', 'dir', 'nbd://h']);
    expect(request).toMatchObject({ kind: 'image', image: { name: 'nbd://h', overlay: 'temporary' } });
  });
});

describe('image options', () => {
  it.each<[string[], object]>([
    [['--overlay'], { overlay: 'temporary' }],
    [['--over'], { overlay: 'temporary' }],
    [['--overlay=o.qcow2'], { overlay: { path: 'o.qcow2' } }],
    [['-rP', 'pid', '--overlay'], { overlay: 'temporary', readOnly: true }],
    [['--format', 'raw.xz'], { requested: { format: 'raw', compression: 'xz' } }],
    [['--partition=3'], { partition: 3 }],
    [['--snapshot-name', '--overlay'], { snapshotName: '--overlay', overlay: undefined }],
  ])('parse: %j', (words, image) => {
    expect(parseArguments([...words, 'dir', 'disk'])).toMatchObject({ kind: 'image', image });
  });

  it('do not take words of a server’s command', () => {
    const request = parseArguments(['dir', '--command', 'sh', '--overlay', 'x']);
    expect(request).toMatchObject({ settings: { server: { argv: ['sh', '--overlay', 'x'] } } });
  });

  it.each<[string[], RegExp]>([
    [['--format=raw', 'dir', '--unix', 's'], /^--format needs an image or a URI/],
    [['--print-command', 'dir', '[', 'true', ']'], /^--print-command needs an image/],
    [['--export=x', 'dir', 'disk'], /^--export cannot be used with an image, only with an NBD server$/],
    [['--overlay', '--restart', 'dir', 'disk'], /^--restart would lose the writes in the temporary overlay/],
    [['--partition=0', 'dir', 'disk'], /^--partition 0: must be a whole number from 1/],
    [['--list', '--overlay', 'nbd://h'], /^--overlay cannot be used with --list/],
  ])('fail without an image: %j', (words, message) => {
    expect(() => parseArguments(words)).toThrow(message);
  });
});

describe('--print-command', () => {
  it.each([
    [['--print-command', 'dir', 'disk'], 'nbdfuse dir'],
    [
      ['-r', '--format', 'raw', '-o', 'uid=5', '--overlay', '--print-command', 'd r', 'disk'],
      "nbdfuse -r -o uid=5 'd r'",
    ],
    [['-C2', '--partition', '1', '--overlay=x', '--', '-dir', 'disk'], 'nbdfuse -C2 -- -dir'],
  ])('keeps all options but those for images: %j', (words, start) => {
    expect(longCommand(words, PREPARED)).toBe(`${start} [ qemu-nbd -f raw 'it'\\''s.img' ]\n`);
  });

  it('prints a command that mounts the same, and creates nothing', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 1);
    await runProgram('xz', '-k', '-0', await convertTo(scope, raw, 'qcow2', 'my disk.qcow2'));
    const words = ['--print-command', `--overlay=${scope.path('kept.qcow2')}`, '-P', scope.path('pid')];
    const program = startNbdfuse(scope, [...words, scope.path('mnt'), scope.path('my disk.qcow2.xz')]);
    expect(await program.ended).toBe(0);
    expect(program.stdout).toMatch(/^qemu-img create .*\nnbdfuse -P .*\n$/);
    expect(await runShell('ls "$0"', scope.folder)).not.toContain('kept.qcow2');
    await runProgram('mkdir', scope.path('mnt'));
    const script = program.stdout.replace('nbdfuse -P', `"$0" "$1" --daemon -P`);
    await runShell(script, process.execPath, NBDFUSE);
    scope.add(() => runProgram('node', NBDFUSE, '--unmount', scope.path('mnt')));
    expect(await hashOf(scope.path('mnt/nbd'))).toBe(await hashOf(raw));
  });
});
