// The servers of the cases, and how nbdfuse reaches them.

import type { Scope } from '../../test/support/run/scope.js';
import { nbdkitTls, qemuNbdCommand, qemuNbdTls } from '../../test/support/run/servers.js';
import { DiskServer, HOST, nbdkitOfDisk, type ServerCommand } from '../soak/server.js';
import type { Plan } from './plan.js';

/** Where servers may listen and find their certificates. */
export interface Surroundings {
  /** Owns all resources of a case. */
  readonly scope: Scope;
  /** Certificates for localhost. */
  readonly pki: string;
  readonly port: number;
}

function filtersOf(server: Plan['server']): [filters: string[], settings: string[]] {
  const [kind, minimum] = server.split('-');
  switch (kind) {
    case 'volatile':
      // Its replies to NBD_CMD_BLOCK_STATUS do not report its holes.
      return [['noextents', 'cache'], []];
    case 'remote':
      return [['delay'], ['rdelay=2ms', 'wdelay=1ms']];
    case 'minimum': {
      const sizes = [`blocksize-minimum=${minimum}`, 'blocksize-preferred=65536', 'blocksize-maximum=1M'];
      return [['blocksize-policy'], [...sizes, 'blocksize-error-policy=error']];
    }
    default:
      return [[], []];
  }
}

function commandOf(plan: Plan, { pki, port }: Surroundings): ServerCommand {
  const on = plan.way === 'unix' ? undefined : { host: HOST, port };
  if (plan.server === 'qemu-nbd') {
    const tls = plan.way === 'tls' ? qemuNbdTls(pki, 'verify-peer=no') : [];
    return ({ disk, pidfile, socket }) =>
      qemuNbdCommand(on ?? { path: socket }, pidfile, ['--format=raw', '--discard=unmap', ...tls, disk]);
  }
  const [filters, settings] = filtersOf(plan.server);
  const tls = plan.way === 'tls' ? nbdkitTls(pki) : [];
  return nbdkitOfDisk(on, [...tls, ...filters.map((filter) => `--filter=${filter}`)], settings);
}

/** The server of a case. @param died called after it has ended unexpectedly */
export function serverOf(plan: Plan, surroundings: Surroundings, died: (why: string) => void): DiskServer {
  return new DiskServer(surroundings.scope, 'disk', plan.size, commandOf(plan, surroundings), died);
}

/** Where a server listens. */
export function addressOf(plan: Plan, server: DiskServer, { port }: Surroundings) {
  return plan.way === 'unix' ? { path: server.socket } : { host: HOST, port };
}
