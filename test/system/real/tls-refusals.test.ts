// TLS sessions that must fail, with nbdkit and with qemu-nbd: one line has the reason, and nothing is
// mounted.

import { copyFileSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { makeAuthority, makeCertificate, makePki } from '../../support/run/certificates.js';
import { createPsk } from '../../support/run/images.js';
import { startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { mountsBelow, Scope } from '../../support/run/scope.js';
import { startNbdkit, startQemuNbd } from '../../support/run/servers.js';

requirePrograms('nbdkit', 'qemu-nbd', 'certtool', 'psktool');

const LONG_AGO = ['activation_date = "2020-01-01 00:00:00"', 'expiration_date = "2021-01-01 00:00:00"'];

let common: Scope;

beforeAll(() => {
  common = new Scope();
  const pki = makePki(common.path('pki'));
  makeAuthority(common.path('other'));
  for (const [name, host, lines] of [
    ['expired', 'localhost', LONG_AGO],
    ['elsewhere', 'elsewhere.example', []],
  ] as const) {
    makeCertificate(common.path(name), 'server', pki, { cn: host, host, lines });
    copyFileSync(`${pki}/ca-cert.pem`, common.path(name, 'ca-cert.pem'));
  }
  for (const folder of ['psk', 'wrong']) {
    mkdirSync(common.path(folder));
    createPsk(common.path(folder, 'keys.psk'));
  }
});

afterAll(() => common.close());

type Credentials = 'x509' | 'psk' | 'none';
type Serve = (scope: Scope, credentials: Credentials, folder: string) => Promise<string>;

const SERVERS: readonly (readonly [string, Serve])[] = [
  [
    'nbdkit',
    async (scope, credentials, folder) => {
      const words = {
        x509: ['--tls=require', `--tls-certificates=${folder}`],
        psk: ['--tls=require', `--tls-psk=${folder}/keys.psk`],
        none: [],
      };
      return (await startNbdkit(scope, ...words[credentials], 'memory', '1M')).socket;
    },
  ],
  [
    'qemu-nbd',
    async (scope, credentials, folder) => {
      const file = scope.path('disk.raw');
      writeFileSync(file, '');
      truncateSync(file, 1 << 20);
      const object = `--object=tls-creds-${credentials},id=tls0,endpoint=server,dir=${folder}`;
      const words = credentials === 'none' ? [] : [object, '--tls-creds=tls0'];
      return (await startQemuNbd(scope, '--format=raw', ...words, file)).socket;
    },
  ],
];

/** The fault; the server's credentials and their folder; the client's parameters; the message. */
type Refusal = readonly [string, Credentials, string, string, RegExp];

const REFUSALS: readonly Refusal[] = [
  ['an unknown authority', 'x509', 'pki', 'tls-certificates=other', /is not signed by an authority in /],
  ['an expired certificate', 'x509', 'expired', 'tls-certificates=pki', /certificate has expired/],
  ['the wrong host', 'x509', 'elsewhere', 'tls-certificates=pki', /certificate is for another name/],
  ['the wrong key', 'psk', 'psk', 'tls-username=alice&tls-psk-file=wrong/keys.psk', /with this key\?/],
  ['no TLS at all', 'none', 'pki', 'tls-certificates=pki', /cannot use TLS, and plain text is not allowed/],
];

// qemu-nbd does not even start with an expired certificate.
const CASES = SERVERS.flatMap(([server, serve]) =>
  REFUSALS.map((refusal) => [server, refusal[0], serve, refusal] as const),
).filter(([server, , , [, , folder]]) => server !== 'qemu-nbd' || folder !== 'expired');

it.each(CASES)(
  'TLS refusals: %s with %s fails',
  async (_server, _what, serve, [, credentials, folder, parameters, why]) => {
    const scope = createScope();
    const socket = await serve(scope, credentials, common.path(folder));
    const mountpoint = scope.path('mnt');
    mkdirSync(mountpoint);
    const located = parameters.replace(/(certificates|file)=/, `$1=${common.folder}/`);
    const program = startNbdfuse(scope, [
      mountpoint,
      `nbds+unix:///?socket=${socket}&tls-hostname=localhost&${located}`,
    ]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(/^nbdfuse: [^\n]*\n$/);
    expect(program.stderr).toMatch(why);
    expect(await mountsBelow(scope.folder)).toEqual([]);
  },
);
