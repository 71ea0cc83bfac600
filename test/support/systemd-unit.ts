// The systemd unit's restrictions of capabilities and system calls, without systemd.
//
// A command in front of nbdfuse sets the same capabilities (setpriv) and the same filters (libseccomp, which systemd
// uses, too). The filters are those of SystemCallFilter=, RestrictAddressFamilies= and RestrictNamespaces=.

import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import { runProgram } from './run/command.js';
import type { Scope } from './run/scope.js';

/** The text of the unit. */
const UNIT = readFileSync(
  fileURLToPath(new URL('../../packaging/nbdfuse@.service', import.meta.url)),
  'utf8',
);

/** The words of a setting of the unit. */
export function wordsOf(setting: string): string[] {
  const lines = UNIT.split('\n').filter((line) => line.startsWith(`${setting}=`));
  return lines.flatMap((line) => line.slice(setting.length + 1).split(' '));
}

/** The command prefix that has only the unit's capabilities. @param without one of them */
export function unitCapabilities(without?: string): string[] {
  const names = wordsOf('CapabilityBoundingSet').filter((name) => name !== without);
  const added = names.map((name) => `+${name.replace('CAP_', '').toLowerCase()}`);
  return ['setpriv', `--bounding-set=${['-all', ...added].join(',')}`, '--inh-caps=-all', '--no-new-privs'];
}

/** Loads filters, from files with the code, and runs a command. $1: the number of prctl(2); $2: that of the files. */
const LOADER = `
my ($prctl, $count) = splice @ARGV, 0, 2;
for my $path (splice @ARGV, 0, $count) {
  open my $file, '<:raw', $path or die "$path: $!";
  read $file, my $code, -s $file;
  my $program = pack 'S x![P] P', length($code) / 8, $code;
  syscall($prctl, 22, 2, $program) == 0 or die "PR_SET_SECCOMP: $!";
}
exec { $ARGV[0] } @ARGV or die "$ARGV[0]: $!";`;

const ALLOW = 0x7fff0000;
/** SCMP_ACT_ERRNO with EPERM, ENOSYS and EAFNOSUPPORT. */
const [REFUSE, UNKNOWN, NO_FAMILY] = [1, 38, 97].map((error) => 0x00050000 + error);
const EQUAL = 4;
const MASKED_EQUAL = 7;

/** The action for the calls of a name. */
interface Rule {
  readonly name: string;
  readonly action: number;
  /** The number of an argument, the comparison and its operands: calls with that argument only. */
  readonly where?: readonly [argument: number, comparison: number, first: number, second: number];
}

/** libseccomp. */
class FilterLibrary {
  readonly #library = koffi.load('libseccomp.so.2');
  readonly #init = this.#library.func('seccomp_init', 'size_t', ['uint32']);
  readonly #resolve = this.#library.func('seccomp_syscall_resolve_name', 'int', ['str']);
  readonly #add = this.#library.func('seccomp_rule_add_array', 'int', [
    'size_t',
    'uint32',
    'int',
    'unsigned int',
    koffi.pointer('uint8'),
  ]);
  readonly #write = this.#library.func('seccomp_export_bpf', 'int', ['size_t', 'int']);
  readonly #release = this.#library.func('seccomp_release', 'void', ['size_t']);

  /** The number of a system call; negative if this processor has none of that name. */
  numberOf(name: string): number {
    return this.#resolve(name);
  }

  /** Writes the code of a filter into a file. @param fallback the action for calls without a rule */
  write(path: string, fallback: number, rules: readonly Rule[]): void {
    const filter = this.#init(fallback);
    for (const rule of rules) {
      const number = this.numberOf(rule.name);
      if (number < 0) continue;
      const condition = conditionOf(rule);
      const count = rule.where === undefined ? 0 : 1;
      const result = this.#add(filter, rule.action, number, count, condition);
      if (result !== 0) throw new Error(`seccomp_rule_add_array: ${rule.name}: ${result}`);
    }
    const file = openSync(path, 'w', 0o644);
    const result = this.#write(filter, file);
    closeSync(file);
    this.#release(filter);
    if (result !== 0) throw new Error(`seccomp_export_bpf: ${result}`);
  }
}

/** struct scmp_arg_cmp. */
function conditionOf({ where = [0, 0, 0, 0] }: Rule): Uint8Array {
  const [argument, comparison, first, second] = where;
  const operands = new BigUint64Array([BigInt(first), BigInt(second)]);
  const head = new Uint32Array([argument, comparison]);
  return new Uint8Array(Buffer.concat([Buffer.from(head.buffer), Buffer.from(operands.buffer)]));
}

/** The system calls of the unit's SystemCallFilter, whose groups systemd-analyze expands. */
async function allowedCalls(): Promise<readonly string[]> {
  const groups = new Map<string, string[]>();
  let group = '';
  for (const line of (await runProgram('systemd-analyze', 'syscall-filter')).split('\n')) {
    const name = line.trim();
    if (line.startsWith('@')) {
      group = name;
      groups.set(group, []);
    } else if (name !== '' && !name.startsWith('#')) groups.get(group)?.push(name);
  }
  const expand = (name: string): string[] =>
    name.startsWith('@') ? (groups.get(name) ?? []).flatMap(expand) : [name];
  return [...new Set(['@default', ...wordsOf('SystemCallFilter')].flatMap(expand))];
}

const FAMILIES: Readonly<Record<string, number>> = {
  AF_UNIX: 1,
  AF_INET: 2,
  AF_INET6: 10,
  AF_NETLINK: 16,
  AF_VSOCK: 40,
};
const FAMILY_COUNT = 46;
/** The CLONE_NEW flags of mount, cgroup, UTS, IPC, user, PID and network namespaces. */
const NAMESPACES = [17, 25, 26, 27, 28, 29, 30].map((bit) => 2 ** bit);

/** The calls that RestrictAddressFamilies and RestrictNamespaces refuse. */
function refusedCalls(): readonly Rule[] {
  const families = wordsOf('RestrictAddressFamilies').map((name) => FAMILIES[name]);
  const others = Array.from({ length: FAMILY_COUNT }, (_, family) => family);
  const sockets = others
    .filter((family) => !families.includes(family))
    .map((family): Rule => ({ name: 'socket', action: NO_FAMILY, where: [0, EQUAL, family, 0] }));
  if (wordsOf('RestrictNamespaces')[0] !== 'yes') return sockets;
  const namespaces = ['clone', 'unshare'].flatMap((name) =>
    NAMESPACES.map((flag): Rule => ({ name, action: REFUSE, where: [0, MASKED_EQUAL, flag, flag] })),
  );
  return [
    ...sockets,
    ...namespaces,
    { name: 'setns', action: REFUSE },
    // A filter cannot see its flags: the C library then uses clone(2).
    { name: 'clone3', action: UNKNOWN },
  ];
}

/**
 * The command prefix with the unit's capabilities, filters and runtime directory, which is `run` in the scope's folder. Needs the programs setpriv, perl and systemd-analyze.
 */
export async function unitRestrictions(scope: Scope): Promise<string[]> {
  const library = new FilterLibrary();
  const paths = [scope.path('allowed.bpf'), scope.path('refused.bpf')];
  const allowed = (await allowedCalls()).map((name): Rule => ({ name, action: ALLOW }));
  library.write(paths[0], REFUSE, allowed);
  library.write(paths[1], ALLOW, refusedCalls());
  const words = ['perl', '-e', LOADER, String(library.numberOf('prctl')), String(paths.length), ...paths];
  const own = scope.path('run');
  mkdirSync(own, { recursive: true, mode: 0o700 });
  return ['env', `RUNTIME_DIRECTORY=${own}`, ...unitCapabilities(), ...words];
}
