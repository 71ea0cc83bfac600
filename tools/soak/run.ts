// `npm run soak -- --minutes N`: fio on three mounts while their servers are killed and frozen and their
// connections cut, every few seconds. Prints a summary in Markdown; exits with 1 unless every byte was
// right, no operation failed, and memory was bounded and, after five minutes, steady. `--verbose` shows what
// nbdfuse says; of a mount that failed the last lines are shown in any case.

import { parseArgs } from 'node:util';
import { folder } from '../bench/processes.js';
import { freePort } from '../bench/servers.js';
import { Lane, type Way } from './lane.js';
import { Memory } from './memory.js';
import { type Result, summary } from './summary.js';
import { certificatesIn, HOST, runToEnd } from './surroundings.js';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '5' }, verbose: { type: 'boolean', default: false } },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) throw new Error('--minutes takes a number');

async function ways(root: string): Promise<Way[]> {
  const [tcp, tls] = [await freePort(), await freePort()];
  const pki = certificatesIn(root);
  const onPort = (port: number): string[] => ['-i', HOST, '-p', String(port)];
  return [
    {
      name: 'Unix',
      options: [],
      listening: undefined,
      target: ({ socket }) => ({ path: socket }),
      where: `${root}/proxy.socket`,
      uri: () => `nbd+unix:///?socket=${root}/proxy.socket`,
    },
    {
      name: 'TCP',
      options: ['--threads=2'],
      listening: onPort(tcp),
      target: () => ({ host: HOST, port: tcp }),
      where: 0,
      uri: (proxy) => `nbd://127.0.0.1:${proxy.port}`,
    },
    {
      name: 'TLS',
      options: [],
      listening: [...onPort(tls), '--tls=require', `--tls-certificates=${pki}`],
      target: () => ({ host: HOST, port: tls }),
      where: 0,
      uri: (proxy) => `nbds://localhost:${proxy.port}/?tls-certificates=${pki}`,
    },
  ];
}

/** Runs one lane to its end, looking at its memory all the while. */
async function soak(lane: Lane, startedAt: number): Promise<Result> {
  const memory = new Memory();
  const sampler = setInterval(() => memory.sample(lane.memory, performance.now() - startedAt), 1000);
  try {
    await lane.run(() => performance.now() - startedAt > minutes * 60_000);
    clearInterval(sampler);
    await lane.close();
    return { lane, memory, failure: undefined };
  } catch (error) {
    return { lane, memory, failure: error instanceof Error ? error.message : String(error) };
  } finally {
    clearInterval(sampler);
  }
}

async function main(): Promise<void> {
  const root = folder();
  const lanes: Lane[] = [];
  for (const way of await ways(root)) lanes.push(await Lane.open(root, way, values.verbose));
  const startedAt = performance.now();
  const results = await Promise.all(lanes.map((lane) => soak(lane, startedAt)));
  console.log(summary(results, (performance.now() - startedAt) / 1000));
  for (const { lane, failure } of results)
    if (failure !== undefined) console.error(`${lane.name}:\n${lane.lastWords}`);
  if (results.some(({ failure, memory }) => failure !== undefined || !memory.good)) process.exitCode = 1;
}

await runToEnd(main);
