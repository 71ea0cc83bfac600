import { describe, expect, it } from 'vitest';
import { parseArguments } from '../../../src/cli/arguments/arguments.js';
import { UsageError } from '../../../src/cli/errors.js';
import type { ServerMode, Settings } from '../../../src/session/settings.js';

const URI = 'nbd://localhost';

function settingsOf(...words: string[]): Settings {
  const request = parseArguments(words);
  if (request.kind !== 'mount') throw new Error(`a request for ${request.kind}`);
  return request.settings;
}

function serverOf(...words: string[]): ServerMode {
  return settingsOf('dir', ...words).server;
}

describe('option defaults', () => {
  it('are those of the manual page', () => {
    expect(settingsOf('dir/disk', URI)).toEqual({
      mountpoint: 'dir/disk',
      server: { kind: 'uri', uri: URI },
      all: false,
      partitions: false,
      exportName: undefined,
      connections: 4,
      fuseOptions: [],
      pidfile: undefined,
      readOnly: false,
      threads: 1,
      verbose: false,
      logFormat: 'text',
      logFile: undefined,
      backend: 'kernel',
      cache: 'writeback',
      reconnectMs: 60_000,
      restart: false,
      timeoutMs: 0,
      settleMs: Number.POSITIVE_INFINITY,
    });
  });
});

describe('--partitions', () => {
  it('works for images and for servers, without a page cache', () => {
    for (const words of [['disk.qcow2'], ['nbd://host'], ['--command', 'CMD'], ['[', 'CMD', ']']]) {
      const request = parseArguments(['--partitions', 'dir', ...words]);
      if (request.kind !== 'mount' && request.kind !== 'image') throw new Error(request.kind);
      expect(request.settings).toMatchObject({ partitions: true, cache: 'none' });
    }
    expect(parseArguments(['--partitions', '--cache=none', 'dir', 'disk.raw']).kind).toBe('image');
  });

  it.each([
    ['--all', /^--partitions and --all cannot be used together/],
    ['--partition=2', /^--partitions and --partition cannot be used together/],
    ['--cache=writethrough', /^--partitions works with --cache=none only, its default: remove --cache$/],
  ])('contradicts %s', (option, message) => {
    expect(() => parseArguments(['--partitions', option, 'dir', 'disk.raw'])).toThrow(message);
  });
});

describe('--all', () => {
  it('accepts every way to name a server but those of one connection', () => {
    for (const words of [[URI], ['--unix', 's'], ['--tcp', 'h', '1'], ['[', 'CMD', ']']])
      expect(settingsOf('--all', 'dir', ...words).all).toBe(true);
    expect(() => settingsOf('--all', 'dir', '--command', 'CMD')).toThrow(
      /--command has only one; use \[ CMD \]/,
    );
    expect(() => settingsOf('--all', 'dir', '--fd', '3')).toThrow(/--fd has only one$/);
  });

  it('excludes --export', () => {
    expect(() => settingsOf('--all', '--export', 'a', 'dir', '--unix', 's')).toThrow(
      /cannot be used together/,
    );
  });
});

describe('options', () => {
  it('for one thread and for several exclude each other', () => {
    expect(() => settingsOf('-s', '--threads=2', 'dir', '--unix', 's')).toThrow(/cannot be used together/);
  });

  it.each<[string[], Partial<Settings>]>([
    [['-C', '7'], { connections: 7 }],
    [['-C1'], { connections: 1 }],
    [['--connections', '1024'], { connections: 1024 }],
    [['--connections=2'], { connections: 2 }],
    [['-C', '2', '-C', '3'], { connections: 3 }],
    [['-d'], { verbose: true }],
    [['-v'], { verbose: true }],
    [['--log-format=json'], { logFormat: 'json' }],
    [['--verbose'], { verbose: true }],
    [['-o', 'allow_other,uid=5', '-oro'], { fuseOptions: ['allow_other,uid=5', 'ro'] }],
    [['-P', '/run/x.pid'], { pidfile: '/run/x.pid' }],
    [['--pidfile', 'x.pid'], { pidfile: 'x.pid' }],
    [['--pid-file=x.pid'], { pidfile: 'x.pid' }],
    [['-r'], { readOnly: true }],
    [['--readonly'], { readOnly: true }],
    [['--read-only'], { readOnly: true }],
    [['-s'], { threads: 1 }],
    [['--threads=4'], { threads: 4 }],
    [['-rsvC2'], { readOnly: true, threads: 1, verbose: true, connections: 2 }],
    [['-rP', '-'], { readOnly: true, pidfile: '-' }],
    [['--fuse-backend=fuse-native'], { backend: 'fuse-native' }],
    [['--fuse-backend', 'kernel'], { backend: 'kernel' }],
    [['--cache', 'none'], { cache: 'none' }],
    [['--cache=writethrough'], { cache: 'writethrough' }],
    [['--reconnect=0'], { reconnectMs: 0 }],
    [['--reconnect', '2.5'], { reconnectMs: 2500 }],
    [['--reconnect', 'forever'], { reconnectMs: Number.POSITIVE_INFINITY }],
    [['--restart'], { restart: true }],
    [['--timeout', '30'], { timeoutMs: 30_000 }],
    [['--'], {}],
  ])('parse: %j', (words, expected) => {
    expect(settingsOf(...words, 'dir', URI)).toMatchObject(expected);
  });

  it.each<[string, Partial<Settings>]>([
    ['--conn=2', { connections: 2 }],
    ['--read', { readOnly: true }],
    ['--re', { readOnly: true }],
    ['--pid=x', { pidfile: 'x' }],
    ['--verb', { verbose: true }],
    ['--rec=1', { reconnectMs: 1000 }],
    ['--ti=1', { timeoutMs: 1000 }],
  ])('may be shortened, with the C nbdfuse’s names first: %s', (word, expected) => {
    expect(settingsOf(word, 'dir', URI)).toMatchObject(expected);
  });

  it('for the export name go with every mode but a URI', () => {
    expect(settingsOf('--export', 'disk', 'dir', '--unix', 's').exportName).toBe('disk');
    expect(() => settingsOf('--export', 'disk', 'dir', URI)).toThrow(/--export cannot be used with a URI/);
  });
});

describe('server arguments', () => {
  it.each<[string[], ServerMode]>([
    [[URI], { kind: 'uri', uri: URI }],
    [['--uri', URI], { kind: 'uri', uri: URI }],
    [['--uri', '--odd'], { kind: 'uri', uri: '--odd' }],
    [['--fd', '0'], { kind: 'fd', fd: 0 }],
    [['--tcp', 'host', '10809'], { kind: 'tcp', host: 'host', port: 10809 }],
    [['--tcp', '::1', 'nbd'], { kind: 'tcp', host: '::1', port: 'nbd' }],
    [['--tcp', '[::1]', 'nbd'], { kind: 'tcp', host: '::1', port: 'nbd' }],
    [['--unix', '/run/nbd.sock'], { kind: 'unix', path: '/run/nbd.sock' }],
    [['--vsock', '2', '10809'], { kind: 'vsock', cid: 2, port: 10809 }],
    [['--vsock', '4294967295', '0'], { kind: 'vsock', cid: 4294967295, port: 0 }],
    [['--command', 'nbdkit', '-s', 'null'], { kind: 'command', argv: ['nbdkit', '-s', 'null'] }],
    [['--cmd', 'nbdkit'], { kind: 'command', argv: ['nbdkit'] }],
    [['--socket-activation', 'nbdkit', 'null'], { kind: 'socket-activation', argv: ['nbdkit', 'null'] }],
    [['--systemd-socket-activation', 'a'], { kind: 'socket-activation', argv: ['a'] }],
    [
      ['[', 'qemu-nbd', '-f', 'qcow2', 'f', ']'],
      { kind: 'socket-activation', argv: ['qemu-nbd', '-f', 'qcow2', 'f'] },
    ],
  ])('parse: %j', (words, expected) => {
    expect(serverOf(...words)).toEqual(expected);
  });

  it.each<[string[], string[]]>([
    [
      ['--command', 'sh', '-c', '-r', '--help', '--', '-V', ']'],
      ['sh', '-c', '-r', '--help', '--', '-V', ']'],
    ],
    [
      ['[', 'sh', '-v', '[', ']', '--', ']', ']'],
      ['sh', '-v', '[', ']', '--', ']'],
    ],
    [
      ['--cmd', '--tcp', ''],
      ['--tcp', ''],
    ],
  ])('of a command include every word that follows: %j', (words, argv) => {
    expect(serverOf(...words)).toMatchObject({ argv });
  });
});

describe('information options', () => {
  it.each([
    ['--help', 'help'],
    ['--fuse-help', 'fuse-help'],
    ['--version', 'version'],
    ['-V', 'version'],
    ['--long-options', 'long-options'],
    ['--short-options', 'short-options'],
  ])('need no mountpoint: %s', (word, kind) => {
    expect(parseArguments([word])).toEqual({ kind });
  });

  it('count only before the mountpoint', () => {
    expect(serverOf('--cmd', 'sh', '--help')).toEqual({ kind: 'command', argv: ['sh', '--help'] });
  });
});

describe('--list', () => {
  it.each<[string[], ServerMode]>([
    [[URI], { kind: 'uri', uri: URI }],
    [['--uri', URI], { kind: 'uri', uri: URI }],
    [['--tcp', 'host', '10809'], { kind: 'tcp', host: 'host', port: 10809 }],
    [['--unix', 'socket'], { kind: 'unix', path: 'socket' }],
    [['--vsock', '2', '10809'], { kind: 'vsock', cid: 2, port: 10809 }],
    [['--fd', '3'], { kind: 'fd', fd: 3 }],
    [['--command', 'nbdkit', '-s', '--list'], { kind: 'command', argv: ['nbdkit', '-s', '--list'] }],
    [['[', 'nbdkit', '-v', ']'], { kind: 'socket-activation', argv: ['nbdkit', '-v'] }],
    [['--', URI], { kind: 'uri', uri: URI }],
  ])('takes the server without a mountpoint: %j', (words, server) => {
    const listing = { server, json: false, verbose: false, logFormat: 'text' };
    expect(parseArguments(['--list', ...words])).toEqual({ kind: 'list', listing });
  });

  it('takes --json and --verbose', () => {
    const listing = { server: { kind: 'uri', uri: URI }, json: true, verbose: true, logFormat: 'text' };
    expect(parseArguments(['--json', '-v', '--list', URI])).toEqual({ kind: 'list', listing });
  });
});

describe('command line errors', () => {
  it.each<[string[], RegExp]>([
    [[], /^no MOUNTPOINT given/],
    [['-r'], /^no MOUNTPOINT given/],
    [['dir'], /^no server given after MOUNTPOINT/],
    [['-C', '0', 'dir', URI], /^--connections 0: must be a whole number from 1 to 1024$/],
    [['-C', '1025', 'dir', URI], /^--connections 1025: must be/],
    [['-C', '1x', 'dir', URI], /^--connections 1x: must be/],
    [['-C', '-1', 'dir', URI], /^--connections -1: must be/],
    [['-C'], /^option .*argument missing; see nbdfuse --help$/],
    [['-x', 'dir', URI], /^unknown option '-x'; see nbdfuse --help$/],
    [['-rx', 'dir', URI], /^unknown option '-x'/],
    [['--bogus', 'dir', URI], /^unknown option '--bogus'/],
    [['--bogus=1', 'dir', URI], /^unknown option '--bogus=1'/],
    [['-x=1', 'dir', URI], /^unknown option '-x=1'/],
    [['--readonly=1', 'dir', URI], /^option --readonly takes no value: write --readonly$/],
    [['--readonly=', 'dir', URI], /^option --readonly takes no value/],
    [['--read-only=no', 'dir', URI], /^option --read-only takes no value: write --read-only$/],
    [['--verb=1', 'dir', URI], /^option --verbose takes no value: write --verbose$/],
    [['-r=1', 'dir', URI], /^option -r takes no value: write -r$/],
    [['-sr=1', 'dir', URI], /^option -r takes no value: write -r$/],
    [['-r', '--daemon=yes', 'dir', URI], /^option --daemon takes no value: write --daemon$/],
    [['-o', 'readonly=1', 'dir', URI], /^-o readonly: .*: write --readonly$/],
    [['--version=1'], /^option --version takes no value: write --version$/],
    [['--status=x', 'dir'], /^option --status takes no value: write --status$/],
    [['cache', 'list', '--json=no'], /^option --json takes no value: write --json$/],
    [['cache', 'export', '--partial=', 'a', 'b'], /^option --partial takes no value/],
    [['-r', 'dir', '--bad'], /^unknown mode --bad: options come before MOUNTPOINT/],
    [['--ver', 'dir', URI], /^option --ver is ambiguous: --verbose --version$/],
    [['--cache=fast', 'dir', URI], /^--cache fast: must be one of writeback, writethrough, none$/],
    [['--fuse-backend=x', 'dir', URI], /^--fuse-backend x: must be one of kernel, fuse-native$/],
    [
      ['--reconnect=soon', 'dir', URI],
      /^--reconnect soon: must be a number of seconds from 0 to 2000000, or forever$/,
    ],
    [['--reconnect=-1', 'dir', URI], /^--reconnect -1: must be/],
    [['--timeout=1e9', 'dir', URI], /^--timeout 1e9: must be a number of seconds from 0 to 2000000$/],
    [['dir', '-r', URI], /^options come first: put -r before MOUNTPOINT$/],
    [['dir', '-rv', URI], /^options come first: put -rv before MOUNTPOINT$/],
    [['dir', URI, '--daemon'], /^options come first: put --daemon before MOUNTPOINT$/],
    [['dir', 'disk.img', '--cache=none'], /^options come first: put --cache before MOUNTPOINT$/],
    [['dir', 'disk.img', '--thread', '2'], /^options come first: put --thread before MOUNTPOINT$/],
    [['dir', '--tcp', 'h', '1', '-o', 'ro'], /^options come first: put -o before MOUNTPOINT$/],
    [['dir', '[', 'true', ']', '-P', 'pid'], /^options come first: put -P before MOUNTPOINT$/],
    [['--partition=1', 'dir', 'disk.img', '-r'], /^options come first: put -r before MOUNTPOINT$/],
    [['--status', 'dir', '--json'], /^options come first: put --json before MOUNTPOINT$/],
    [['--unmount', 'dir', '--log-format=json'], /^options come first: put --log-format before MOUNTPOINT$/],
    [['--list', URI, '--json'], /^options come first: put --json before MOUNTPOINT$/],
    [['--overlay', 'ov', 'dir', 'disk.img'], /^the value of --overlay follows "=": write --overlay=ov$/],
    [['--overlay', 'ov', '-r', 'dir', 'disk.img'], /^the value of --overlay follows "="/],
    [
      ['--prefetch', '9M', 'dir', '--tcp', 'h', '1'],
      /^the value of --prefetch follows "=": write --prefetch=9M$/,
    ],
    [['--overlay', 'dir', 'disk.img', '-r'], /^options come first: put -r before MOUNTPOINT$/],
    [[URI, 'dir'], /^MOUNTPOINT comes before the server: nbdfuse dir nbd:\/\/localhost$/],
    [[URI], /^MOUNTPOINT comes before the server: nbdfuse MOUNTPOINT nbd:\/\/localhost$/],
    [
      ['-o', 'ro,threads=4', 'dir', URI],
      /^-o threads: this is an option of nbdfuse itself: write --threads=4$/,
    ],
    [['-o', 'restart', 'dir', URI], /^-o restart: this is an option of nbdfuse itself: write --restart$/],
    [['dir', '--', URI], /^unknown mode --: /],
    [['dir', '-odd.img'], /; for a file of this name, write \.\/-odd\.img$/],
    [['--partition=1', 'dir', '-odd.img'], /: for a file of this name, write \.\/-odd\.img$/],
    [['dir', '--tcp=h', '1'], /^unknown mode --tcp=h: /],
    [['--tcp', 'h', '1', 'dir'], /^--tcp must come after MOUNTPOINT/],
    [['-r', '--tcp', 'h', '1'], /^--tcp must come after MOUNTPOINT: nbdfuse MOUNTPOINT --tcp \.\.\.$/],
    [['[', 'true', ']'], /^\[ must come after MOUNTPOINT/],
    [['--list'], /^no server given: nbdfuse --list URI/],
    [['--list', 'dir', URI], /^unexpected argument nbd:/],
    [['--list', '--bogus', URI], /^unknown option '--bogus'/],
    [['--list', '-C', '2', URI], /^--connections cannot be used with --list, which mounts nothing$/],
    [['--list', '-oro', URI], /^-o cannot be used with --list/],
    [['--json', 'dir', URI], /^--json needs --list, --status or --list-mounts: nbdfuse --list --json URI$/],
    [['dir', URI, 'more'], /^unexpected argument more: URI takes only URI$/],
    [['dir', '--uri'], /^--uri needs URI$/],
    [['dir', '--fd'], /^--fd needs N$/],
    [['dir', '--fd', 'x'], /^--fd x: must be a whole number/],
    [['dir', '--fd', '3', '4'], /^unexpected argument 4: --fd takes only N$/],
    [['dir', '--tcp', 'h'], /^--tcp needs HOST PORT$/],
    [['dir', '--tcp', 'h:1'], /^--tcp needs HOST PORT, two arguments: --tcp h 1$/],
    [['dir', '--tcp', '[::1]:1'], /two arguments: --tcp \[::1\] 1$/],
    [['dir', '--tcp', '', '1'], /^--tcp HOST PORT: HOST is empty$/],
    [['dir', ''], /^URI is empty: name an image or an NBD server$/],
    [['dir', '--tcp', 'h', '0'], /^--tcp PORT 0: must be a whole number from 1 to 65535$/],
    [['dir', '--tcp', 'h', '70000'], /^--tcp PORT 70000: must be/],
    [['dir', '--unix'], /^--unix needs SOCKET$/],
    [['dir', '--vsock', '2'], /^--vsock needs CID PORT$/],
    [['dir', '--vsock', '4294967296', '1'], /^--vsock CID 4294967296: must be/],
    [['dir', '--command'], /^--command needs CMD \[ARGS ...\]$/],
    [['dir', '--socket-activation'], /^--socket-activation needs CMD/],
    [['dir', '[', 'true'], /needs \] as the last argument$/],
    [['dir', '['], /needs \] as the last argument$/],
    [['dir', '[', ']'], /^\[ needs CMD/],
    [['dir', '--od\x1bd'], /^unknown mode --od\\x1bd: /],
  ])('print one line: %j', (words, message) => {
    expect(() => parseArguments(words)).toThrow(UsageError);
    expect(() => parseArguments(words)).toThrow(message);
  });
});
