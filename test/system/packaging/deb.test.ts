// The Debian packages, as `npm run package` makes them. scripts/package-test installs them in fresh Debian systems.

import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { brokenLinks, pagesBelow } from '../../support/links.js';
import { runProgram, runShell, tryProgram } from '../../support/run/command.js';
import { runWithin } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { Scope } from '../../support/run/scope.js';

requirePrograms('dpkg-deb', 'npm', 'gzip', 'md5sum', 'nbdkit');

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const ARCHITECTURES = [
  ['amd64', 'x64', 'x86-64'],
  ['arm64', 'arm64', 'aarch64'],
] as const;

const outer = new Scope();

/** Makes packages in a directory of the scope. */
async function makePackages(directory: string, ...architectures: readonly string[]): Promise<void> {
  await runWithin(outer, 280, ['bash', `${ROOT}scripts/package`, ...architectures], {
    ...process.env,
    PACKAGES: outer.path(directory),
    DEBFULLNAME: 'Test',
    DEBEMAIL: 'test@debian.org',
    SOURCE_DATE_EPOCH: '1700000000',
  });
}

function packageOf(architecture: string, directory = 'packages'): string {
  const found = readdirSync(outer.path(directory)).find((name) => name.endsWith(`_${architecture}.deb`));
  return outer.path(directory, found ?? 'none');
}

/** All files of an unpacked package, relative. */
const filesOf = (architecture: string): string[] =>
  readdirSync(outer.path(architecture), { recursive: true, encoding: 'utf8' })
    .filter((name) => !lstatSync(outer.path(architecture, name)).isDirectory())
    .sort();

const hashOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

beforeAll(async () => {
  await makePackages('packages', ...ARCHITECTURES.map(([name]) => name));
  for (const [name] of ARCHITECTURES) await runProgram('dpkg-deb', '-x', packageOf(name), outer.path(name));
}, 300_000);
afterAll(() => outer.close());

describe.each(ARCHITECTURES)('Debian package for %s', (architecture, cpu, machine) => {
  it('has the programs, their documents, and what the system needs to use them', () => {
    expect(filesOf(architecture)).toEqual(
      expect.arrayContaining([
        'usr/bin/nbdfuse',
        'usr/bin/nbdsh',
        'usr/lib/nbdfuse/bin/nbdfuse-chunks',
        'usr/lib/nbdfuse/packaging/confine.pl',
        'usr/lib/nbdfuse/open-image',
        'usr/lib/systemd/system/nbdfuse@.service',
        'usr/sbin/mount.fuse.nbdfuse',
        'usr/sbin/umount.fuse.nbdfuse',
        'usr/share/applications/nbdfuse-open.desktop',
        'usr/share/bash-completion/completions/nbdfuse',
        'usr/share/bash-completion/completions/nbdsh',
        'usr/share/doc/nbdfuse/changelog.Debian.gz',
        'usr/share/doc/nbdfuse/copyright',
        'usr/share/doc/nbdfuse/monitoring/nbdfuse.rules.yml',
        'usr/share/fish/vendor_completions.d/nbdfuse.fish',
        'usr/share/man/man1/nbdfuse.1.gz',
        'usr/share/man/man1/nbdsh.1.gz',
        'usr/share/man/man3/nbdfuse-library.3.gz',
        'usr/share/man/man8/mount.fuse.nbdfuse.8.gz',
        'usr/share/man/man8/umount.fuse.nbdfuse.8.gz',
        'usr/share/zsh/vendor-completions/_nbdfuse',
      ]),
    );
  });

  it('has a bash completion for each program, which loads without another', async () => {
    // bash-completion loads the file with the name of the command.
    const load = '. "$1/$2"; complete -p "$2"';
    for (const name of readdirSync(outer.path(architecture, 'usr/bin'))) {
      const directory = outer.path(architecture, 'usr/share/bash-completion/completions');
      const words = ['--norc', '-c', load, 'bash', directory, name];
      expect(await runProgram('bash', ...words)).toBe(`complete -F _${name} ${name}\n`);
    }
  });

  it('diverts the same files of libnbd for each program', async () => {
    const control = outer.path(`${architecture}.control`);
    await runProgram('dpkg-deb', '-e', packageOf(architecture), control);
    const pathsIn = (script: string): readonly string[] =>
      readFileSync(`${control}/${script}`, 'utf8').match(
        /(?<= )\/usr\/\S*\/nbd(?:fuse|sh)(?:\.1\.gz)?(?=[ ;])/g,
      ) ?? [];
    const diverted = pathsIn('preinst');
    const ofShell = diverted.filter((path) => path.includes('nbdsh'));
    const ofProgram = diverted.filter((path) => path.includes('nbdfuse'));
    expect(ofShell).toEqual(ofProgram.map((path) => path.replace('nbdfuse', 'nbdsh')));
    expect([...pathsIn('postrm')].sort()).toEqual([...diverted].sort());
    const files = filesOf(architecture).map((path) => `/${path}`);
    expect(diverted.filter((path) => !files.includes(path))).toEqual([]);
    const places = ['bin', 'completions', 'man1'].flatMap((place) =>
      files.filter((path) => path.includes(`/${place}/nbd`) && !path.includes('/lib/')),
    );
    expect(places.filter((path) => !diverted.includes(path))).toEqual([]);
  });

  it('has native binaries for its processor only, and no code cache', async () => {
    const files = filesOf(architecture);
    const koffi = `usr/lib/nbdfuse/node_modules/@koromix/koffi-linux-${cpu}/linux_${cpu}/koffi.node`;
    const liblzma = cpu === 'x64' ? ['usr/lib/nbdfuse/dist/program/liblzma-x64.so'] : [];
    const binaries = [...liblzma, koffi];
    expect(files.filter((name) => /\.(node|so|cache|cc|ts)$|trampolines/.test(name))).toEqual(binaries);
    for (const binary of binaries)
      expect(await runProgram('file', outer.path(architecture, binary))).toContain(machine);
    expect(readdirSync(outer.path(architecture, 'usr/lib/nbdfuse/node_modules'))).toEqual([
      '@koromix',
      'koffi',
    ]);
  });

  it('depends on Node.js 20 and the decoders, recommends the servers, and keeps clear of libnbd', async () => {
    const control = await runProgram('dpkg-deb', '-f', packageOf(architecture));
    expect(control).toMatch(/^Depends: nodejs \(>= 20\),/m);
    const [, depends] = /^Depends: (.*)$/m.exec(control) ?? [];
    const decoders = readFileSync(`${ROOT}src/chunks/decode/native.ts`, 'utf8');
    const libraries = [...decoders.matchAll(/^ {2}'lib.*\.so\..*': '(.*)',$/gm)].map(([, name]) => name);
    expect(libraries).toHaveLength(5);
    expect(depends.split(', ')).toEqual(expect.arrayContaining(libraries));
    expect(control).toMatch(/^Suggests: libnotify-bin, openssh-client, xdg-utils$/m);
    expect(control).toMatch(/^Recommends: fuse3, nbdkit, qemu-utils$/m);
    expect(control).toContain(`\nArchitecture: ${architecture}\n`);
    // libnbd-bin and python3-libnbd conflict with nbdfuse (<< 1.4.0).
    const [, version] = /^Version: (.*)$/m.exec(control) ?? [];
    expect((await tryProgram('dpkg', '--compare-versions', version, 'ge', '1.4.0')).status).toBe(0);
    const [, size] = /^Installed-Size: (\d+)$/m.exec(control) ?? [];
    expect(Number(size)).toBeGreaterThan(1000);
    expect(Number(size)).toBeLessThan(6000);
  });

  it('leaves no placeholder, and runs the node of the package nodejs', () => {
    const root = outer.path(architecture);
    for (const name of filesOf(architecture).filter((one) => !/\.(gz|node|[cm]?js)$/.test(one))) {
      if (lstatSync(`${root}/${name}`).isSymbolicLink()) continue;
      expect(`${name}: ${readFileSync(`${root}/${name}`, 'utf8')}`).not.toMatch(/@[A-Z]+@|\/usr\/bin\/env/);
    }
    expect(readFileSync(`${root}/usr/sbin/mount.fuse.nbdfuse`, 'utf8')).toContain(
      '"/usr/bin/node" "/usr/lib/nbdfuse/bin/nbdfuse"',
    );
    expect(readlinkSync(`${root}/usr/bin/nbdfuse`)).toBe('../lib/nbdfuse/bin/nbdfuse');
  });
});

describe('Debian package', () => {
  it('has documents whose links lead to its own files', () => {
    const documents = outer.path('amd64', 'usr/share/doc/nbdfuse');
    const pages = pagesBelow(documents);
    expect(pages).toEqual(expect.arrayContaining(['README.md', 'SECURITY.md', 'docs/guide/images.md']));
    expect(pages.flatMap((page) => brokenLinks(documents, page))).toEqual([]);
  });

  it('has the manual pages that its manual pages name', async () => {
    const manuals = outer.path('amd64', 'usr/share/man');
    const roff = await runShell('zcat "$0"/*/*.gz', manuals);
    // The names are in bold, and their hyphens are escaped.
    const text = roff.replace(/\\f.|\\/g, '');
    const named = [...text.matchAll(/((?:u?mount\.fuse\.)?nbd(?:fuse|sh)(?:-library)?)\((\d)\)/g)];
    const files = named.map(([, name, section]) => `man${section}/${name}.${section}.gz`);
    const known = readdirSync(manuals, { recursive: true, encoding: 'utf8' });
    expect(new Set(files).size).toBe(5);
    expect(files.filter((file) => !known.includes(file))).toEqual([]);
  });

  it('contains a program that runs', async () => {
    const arch = process.arch === 'x64' ? 'amd64' : process.arch;
    const { version } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as { version: string };
    const program = outer.path(arch, 'usr/lib/nbdfuse/bin/nbdfuse');
    expect(await runProgram('node', program, '--version')).toBe(`nbdfuse ${version}\n`);
    const shell = outer.path(arch, 'usr/lib/nbdfuse/bin/nbdsh');
    const connect = "const disk = await NbdClient.connect({ socketActivation: ['nbdkit', 'memory', '3M'] })";
    const size = await runProgram('node', shell, '-c', connect, '-c', 'print(disk.size); await disk.close()');
    expect(size).toBe('3145728\n');
  });

  it('has the same bytes when it is made again', async () => {
    await makePackages('again', 'amd64');
    expect(hashOf(packageOf('amd64', 'again'))).toBe(hashOf(packageOf('amd64')));
  }, 300_000);

  it('has no error for lintian, where that is installed', async () => {
    if ((await tryProgram('sh', '-c', 'command -v lintian')).status !== 0) return;
    for (const [name] of ARCHITECTURES)
      await runWithin(outer, 90, ['sh', '-c', 'lintian --fail-on error "$0" >&2', packageOf(name)]);
  }, 200_000);

  it('has entries for file managers that are valid, and open read-only', async () => {
    const validate =
      'command -v desktop-file-validate >/dev/null || exit 0; desktop-file-validate "$0"/*.desktop';
    expect(await runShell(validate, outer.path('amd64', 'usr/share/applications'))).toBe('');
    for (const name of ['nbdfuse-open', 'nbdfuse-unmount']) {
      const text = readFileSync(outer.path('amd64', `usr/share/applications/${name}.desktop`), 'utf8');
      expect(text).toMatch(/^Exec=\/usr\/lib\/nbdfuse\/open-image (--unmount )?%f$/m);
      expect(text).toMatch(/^MimeType=(application\/[\w.-]+;)+$/m);
    }
    const script = readFileSync(outer.path('amd64', 'usr/lib/nbdfuse/open-image'), 'utf8');
    expect(
      script.match(/nbdfuse" --daemon .*/g)?.every((line) => line.startsWith('nbdfuse" --daemon -r ')),
    ).toBe(true);
  });
});
