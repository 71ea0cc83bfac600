// `npm run soak -- --minutes N`: fio on three mounts while their servers are killed and frozen and their
// connections cut, every few seconds. Prints a summary in Markdown; exits with 1 unless every byte was right,
// no operation failed, and memory was bounded and, after five minutes, steady. `--verbose` shows the output
// of nbdfuse; for a failed mount the last lines always appear.

import { parseArgs } from 'node:util';
import { makePki } from '../../test/support/run/certificates.js';
import { freePort } from '../../test/support/run/ports.js';
import type { Scope } from '../../test/support/run/scope.js';
import { nbdkitTls, uriOf } from '../../test/support/run/servers.js';
import { runToEnd } from '../run-to-end.js';
import { Memory } from './memory.js';
import { HOST } from './server.js';
import { SoakedMount, type Way } from './soaked-mount.js';
import { type Result, summary } from './summary.js';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '5' }, verbose: { type: 'boolean', default: false } },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) throw new Error('--minutes takes a number');

async function ways(scope: Scope): Promise<Way[]> {
  const [tcp, tls] = [
    { host: HOST, port: await freePort() },
    { host: HOST, port: await freePort() },
  ];
  const pki = makePki(scope.path('pki'));
  const where = scope.path('proxy.socket');
  return [
    {
      name: 'Unix',
      options: [],
      listening: undefined,
      tls: [],
      target: ({ socket }) => ({ path: socket }),
      where,
      uri: () => uriOf({ path: where }),
    },
    {
      name: 'TCP',
      options: ['--threads=2'],
      listening: tcp,
      tls: [],
      target: () => tcp,
      where: 0,
      uri: ({ port }) => uriOf({ host: '127.0.0.1', port }),
    },
    {
      name: 'TLS',
      options: [],
      listening: tls,
      tls: nbdkitTls(pki),
      target: () => tls,
      where: 0,
      uri: ({ port }) => uriOf({ host: 'localhost', port }, '', pki),
    },
  ];
}

/** Runs one mount to its end, and samples its memory. */
async function soak(mount: SoakedMount, startedAt: number): Promise<Result> {
  const memory = new Memory();
  const sampler = setInterval(() => memory.sample(mount.memory, performance.now() - startedAt), 1000);
  try {
    await mount.run(() => performance.now() - startedAt > minutes * 60_000);
    clearInterval(sampler);
    await mount.close();
    return { mount, memory, failure: undefined };
  } catch (error) {
    return { mount, memory, failure: error instanceof Error ? error.message : String(error) };
  } finally {
    clearInterval(sampler);
  }
}

async function main(scope: Scope): Promise<void> {
  const mounts: SoakedMount[] = [];
  for (const way of await ways(scope)) mounts.push(await SoakedMount.open(scope, way, values.verbose));
  const startedAt = performance.now();
  const results = await Promise.all(mounts.map((mount) => soak(mount, startedAt)));
  console.log(summary(results, (performance.now() - startedAt) / 1000));
  for (const { mount, failure } of results)
    if (failure !== undefined) console.error(`${mount.name}:\n${mount.lastWords}`);
  if (results.some(({ failure, memory }) => failure !== undefined || !memory.good)) process.exitCode = 1;
}

await runToEnd(main);
