import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

it('API reference: describes all exports of the library, and nothing else; `npm run docs` makes it', () => {
  const index = readFileSync(join(ROOT, 'src/index.ts'), 'utf8');
  const exported = [...index.matchAll(/export (?:type )?\{([^}]*)\}/g)]
    .flatMap(([, names]) => names.split(','))
    .map((name) => name.replace('type ', '').trim())
    .filter((name) => name !== '');
  const page = readFileSync(join(ROOT, 'docs/api/README.md'), 'utf8');
  const headings = [...page.matchAll(/^### (.*)$/gm)].map(([, heading]) => heading.replace(/\(\)$|\\/g, ''));
  expect(headings.sort()).toEqual(exported.sort());
});
