// Runs every test case of a target once, those of the last runs and the seeds. Called by coverage.ts.

import { existsSync, readdirSync, readFileSync } from 'node:fs';

async function main(target: string): Promise<void> {
  const { fuzz }: { fuzz(data: Buffer): void } = await import(`./targets/${target}.js`);
  for (const folder of [`tools/fuzz/corpus/${target}`, `tools/fuzz/build/corpus/${target}`]) {
    for (const name of existsSync(folder) ? readdirSync(folder) : []) {
      try {
        fuzz(readFileSync(`${folder}/${name}`));
      } catch (error) {
        // The fuzzer reports it.
        console.error(`${folder}/${name}: ${error instanceof Error ? error.message : error}`);
      }
    }
  }
}

void main(process.argv[2]);
