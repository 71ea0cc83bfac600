// docs/terminal.svg, which the README shows, and the code that draws it.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { tryProgram } from '../../support/run/command.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

it('picture of the terminal: shows a real session in which an image becomes a file', () => {
  const text = readFileSync(`${ROOT}docs/terminal.svg`, 'utf8').replace(/<[^>]*>/g, '');
  expect(text).toContain('nbdfuse --daemon dir/disk.raw disk.qcow2');
  expect(text).toContain('dir/disk.raw1');
  expect(text).not.toMatch(/nbdfuse: .*(cannot|failed|no such)/);
  expect(text).not.toContain('\x1b');
});

it('picture of the terminal: has the emphasis of the terminal, and escapes characters for XML', async () => {
  const code = `import { render } from '${ROOT}scripts/picture.mjs';
    process.stdout.write(render('\\x1b[1ma<b\\x1b[22m &\\r\\n\\x1b[32mok\\x1b[0m.\\n'))`;
  const { stdout } = await tryProgram('node', '--input-type=module', '-e', code);
  expect(stdout).toContain('<tspan class="bold">a&lt;b</tspan><tspan> &amp;</tspan></text>');
  expect(stdout).toContain('<tspan class="green">ok</tspan><tspan>.</tspan></text>');
});
