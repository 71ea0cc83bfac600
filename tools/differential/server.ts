// The servers of the cases, and how nbdfuse reaches them.

import { DiskServer, nbdkitWords, type ServerWords } from '../soak/server.js';
import { HOST } from '../soak/surroundings.js';
import type { Plan } from './plan.js';

/** Where servers may listen and find their certificates. */
export interface Surroundings {
  readonly folder: string;
  /** Certificates for localhost. */
  readonly pki: string;
  readonly port: number;
}

function qemuNbdWords(way: Plan['way'], { pki, port }: Surroundings): ServerWords {
  const tls = [`--object=tls-creds-x509,id=tls,endpoint=server,dir=${pki},verify-peer=no`, '--tls-creds=tls'];
  return ({ disk, pidfile, socket }) => [
    'qemu-nbd',
    '--persistent',
    '--shared=32',
    '--format=raw',
    '--discard=unmap',
    `--pid-file=${pidfile}`,
    ...(way === 'unix' ? [`--socket=${socket}`] : [`--bind=${HOST}`, `--port=${port}`]),
    ...(way === 'tls' ? tls : []),
    disk,
  ];
}

function filtersOf(server: Plan['server']): [filters: string[], settings: string[]] {
  const [kind, minimum] = server.split('-');
  switch (kind) {
    case 'volatile':
      // Its answers to NBD_CMD_BLOCK_STATUS know nothing of what it holds.
      return [['noextents', 'cache'], []];
    case 'far':
      return [['delay'], ['rdelay=2ms', 'wdelay=1ms']];
    case 'minimum': {
      const sizes = [`blocksize-minimum=${minimum}`, 'blocksize-preferred=65536', 'blocksize-maximum=1M'];
      return [['blocksize-policy'], [...sizes, 'blocksize-error-policy=error']];
    }
    default:
      return [[], []];
  }
}

function wordsOf(plan: Plan, surroundings: Surroundings): ServerWords {
  if (plan.server === 'qemu-nbd') return qemuNbdWords(plan.way, surroundings);
  const { pki, port } = surroundings;
  const onPort = ['-i', HOST, '-p', String(port)];
  const tls = plan.way === 'tls' ? ['--tls=require', `--tls-certificates=${pki}`] : [];
  const [filters, settings] = filtersOf(plan.server);
  return nbdkitWords(filters, plan.way === 'unix' ? undefined : [...onPort, ...tls], settings);
}

/** The server of a case. @param died hears of one that ended by itself */
export function serverOf(plan: Plan, surroundings: Surroundings, died: (why: string) => void): DiskServer {
  return new DiskServer(surroundings.folder, 'disk', plan.size, wordsOf(plan, surroundings), died);
}

/** Where a server listens. */
export function addressOf(plan: Plan, server: DiskServer, { port }: Surroundings) {
  return plan.way === 'unix' ? { path: server.socket } : { host: HOST, port };
}

/** The URI of what listens on a path, or on a port of this machine. */
export function uriOf(
  plan: Plan,
  where: { path: string } | { host: string; port: number },
  pki: string,
): string {
  if ('path' in where) return `nbd+unix:///?socket=${where.path}`;
  const authority = `${where.host}:${where.port}`;
  if (plan.way === 'tcp') return `nbd://${authority}`;
  return `nbds://${authority}/?tls-certificates=${pki}&tls-hostname=localhost`;
}
