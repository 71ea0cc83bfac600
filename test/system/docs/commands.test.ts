// Runs every command in README and docs as written.
//
// A block of the language `sh` holds commands. Those of docs run section by section, each in a new directory, with the
// surroundings of test/support/document-world.ts. The examples of README run one after the other, with the servers that
// README itself starts: scripts/readme-examples, which also follows README in fresh systems.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { type Block, blocksOf, commandSections, manualExamples } from '../../support/document.js';
import { DocumentWorld } from '../../support/document-world.js';
import { runShell } from '../../support/run/command.js';
import { admitNormalUser } from '../../support/run/normal-user.js';
import { runWithin } from '../../support/run/program.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { Scope } from '../../support/run/scope.js';

requireRoot();
requirePrograms(
  'nbdkit',
  'qemu-nbd',
  'qemu-system-x86_64',
  'mkfs.ext4',
  'sfdisk',
  'xz',
  'psktool',
  'getfattr',
  'busybox',
  'unshare',
);

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const below = (folder: string): string[] =>
  readdirSync(`${ROOT}${folder}`, { recursive: true }).map((name) => `${folder}/${name}`);
const DOCUMENTS = [
  'README.md',
  ...below('docs').filter((name) => name.endsWith('.md') && !/^docs\/reference\/(man|api)\//.test(name)),
];

/** Sections whose commands the test skips, with the reason. */
const NOT_RUN: Readonly<Record<string, string>> = {
  'README.md: See it work':
    'it installs packages; CI runs scripts/test, and test/system/docs/demo.test.ts the demo',
  'README.md: From a checkout': 'changes this machine; scripts/bare-machine follows it elsewhere',
  'README.md: On Debian and Ubuntu':
    'changes this machine; scripts/package-test installs the package in fresh systems',
  'docs/internals/testing.md: Benchmark': 'it makes a system of another version, and measures for an hour',
  'docs/reference/library.md: Install it in a project':
    'needs the packed package; test/system/packaging/npm-package.test.ts runs it',
  'docs/guide/boot.md: Mount at boot':
    'changes this machine; test/system/packaging/mount-helper.test.ts does it and takes it back',
};

const sectionsOf = (name: string) => [...commandSections(readFileSync(`${ROOT}${name}`, 'utf8'))];
const CASES = DOCUMENTS.flatMap((name) =>
  sectionsOf(name).map(([section, blocks]) => [`${name}: ${section}`, blocks] as [string, Block[]]),
).filter(([at]) => !Object.hasOwn(NOT_RUN, at));
const isOfReadme = ([at]: [string, Block[]]): boolean => at.startsWith('README.md: ');

const outer = new Scope();
let world: DocumentWorld;
beforeAll(async () => {
  world = await DocumentWorld.make(outer);
});
afterAll(() => outer.close());

describe('commands in documents', () => {
  it.each(CASES.filter((one) => !isOfReadme(one)))('work as written: %s', async (_, blocks) => {
    await world.run(createScope(), blocks.map(({ text }) => text).join('\n'));
  });

  it.each(manualExamples(readFileSync(`${ROOT}docs/reference/man/nbdfuse.1.md`, 'utf8')))(
    'work as written: nbdfuse(1): %s',
    async (_, commands) => {
      expect(commands).toContain('nbdfuse ');
      await world.run(createScope(), commands);
    },
  );

  it('work as written, and again: README.md, all examples, for a normal user', async () => {
    const path = `${ROOT}bin:${dirname(process.execPath)}:/usr/bin:/bin`;
    const scope = createScope();
    admitNormalUser(scope);
    const script = [`${ROOT}scripts/readme-examples`, `${ROOT}README.md`, 'nobody'];
    await runWithin(scope, 110, ['bash', ...script], { PATH: path, TMPDIR: scope.folder });
  }, 120_000);
});

describe('commands test', () => {
  it('has each section that it skips', () => {
    const known = DOCUMENTS.flatMap((name) => sectionsOf(name).map(([section]) => `${name}: ${section}`));
    expect(Object.keys(NOT_RUN).filter((at) => !known.includes(at))).toEqual([]);
  });

  it('finds every example of README', async () => {
    const examples = await runShell('. "$0/scripts/readme.sh"; readme_examples "$0/README.md"', ROOT);
    const blocks = CASES.filter(isOfReadme).flatMap(([, all]) => all);
    expect(blocks.length).toBe(8);
    for (const { text } of blocks) expect(examples).toContain(`${text}\n`);
  });

  it('knows the language of every block, so that it skips none', () => {
    const languages = DOCUMENTS.flatMap((name) =>
      blocksOf(readFileSync(`${ROOT}${name}`, 'utf8')).map(
        ({ language, line }) => `${name}:${line} ${language}`,
      ),
    );
    expect(languages.filter((text) => !/ (sh|text|ts|js|json|ini|fstab)$/.test(text))).toEqual([]);
  });

  it('fails where a command fails, at any place', async () => {
    const { text } = blocksOf('# A\n\n```sh\nnbdfuse dir nbd://host/none\necho on\n```\n')[0];
    await expect(world.run(createScope(), text)).rejects.toThrow(/status 1: .*nbdfuse: .*none/s);
    await expect(
      world.run(createScope(), 'nbdfuse dir nbd://host/export\nfalse | cat\ntrue'),
    ).rejects.toThrow('status 1');
  });

  it('refuses a block without a language or fences', () => {
    expect(() => blocksOf('text\n\n    nbdfuse dir\n')).toThrow('line 3: an indented block');
    expect(blocksOf('```\nx\n```')[0].language).toBe('');
  });
});
