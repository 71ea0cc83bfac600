// The metrics in a real Prometheus, with the alert rules and the dashboard of packaging/monitoring.

import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { freePort } from '../../support/run/ports.js';
import { Program } from '../../support/run/program.js';
import { requireProgram, requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'dd', 'xz', 'prometheus', 'promtool');

const fileOf = (name: string): string => fileURLToPath(new URL(`../../../${name}`, import.meta.url));
const RULES = fileOf('packaging/monitoring/nbdfuse.rules.yml');
const RULE_TESTS = fileOf('test/system/metrics/nbdfuse.rules.test.yml');
const MIB = 1024 * 1024;

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly datasource?: { readonly uid: string };
  readonly targets?: readonly { readonly refId: string; readonly expr: string }[];
}

interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
}

const DASHBOARD = JSON.parse(
  readFileSync(fileOf('packaging/monitoring/nbdfuse.dashboard.json'), 'utf8'),
) as Dashboard;
const TARGETS = DASHBOARD.panels.flatMap(({ targets = [] }) => targets);

/** An expression of the dashboard as Grafana sends it, with every variable at All. */
const sent = (expr: string): string =>
  expr.replaceAll('$__rate_interval', '1m').replaceAll(/\$(?:job|instance|mountpoint)\b/g, '.*');

/** The metrics that an expression or a rule names. */
const metricsIn = (text: string): readonly string[] => text.match(/\b(?:nbdfuse|process)_\w+/g) ?? [];

/** An image with a cache file, which has the metrics of caches. */
async function mountImage(scope: Scope) {
  const image = scope.path('disk.raw');
  writeFileSync(image, Buffer.alloc(4 * MIB, 'bytes of an image; '));
  execFileSync('xz', [image]);
  return mountDisk(scope, {
    name: 'image',
    server: [`${image}.xz`],
    options: ['-r', '--prefetch', `--cache-file=${scope.path('cache')}`, '--metrics=0'],
  });
}

/** A Prometheus that scrapes some ports of this machine each second. */
async function startPrometheus(scope: Scope, ports: readonly string[]) {
  const port = await freePort();
  const rules = scope.path('nbdfuse.rules.yml');
  copyFileSync(RULES, rules);
  const config = {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: [rules],
    scrape_configs: [
      { job_name: 'nbdfuse', static_configs: [{ targets: ports.map((one) => `127.0.0.1:${one}`) }] },
    ],
  };
  // JSON is YAML.
  writeFileSync(scope.path('prometheus.yml'), JSON.stringify(config));
  const program = new Program(scope, 'prometheus', [
    `--config.file=${scope.path('prometheus.yml')}`,
    `--storage.tsdb.path=${scope.path('data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ]);
  await until('a ready Prometheus', () => program.stderr.includes('ready to receive web requests'), 60_000);
  const get = async (path: string): Promise<unknown> => {
    const { status, data } = (await (await fetch(`http://127.0.0.1:${port}/api/v1/${path}`)).json()) as {
      status: string;
      data: unknown;
    };
    expect(status, path).toBe('success');
    return data;
  };
  const query = async (expr: string) => {
    const { result } = (await get(`query?query=${encodeURIComponent(expr)}`)) as {
      result: readonly {
        readonly metric: Readonly<Record<string, string>>;
        readonly value: [number, string];
      }[];
    };
    return result;
  };
  return { program, get, query };
}

const portIn = (stderr: string): string => /127\.0\.0\.1:(\d+)\/metrics/.exec(stderr)?.[1] ?? '';

describe('metrics in Prometheus', () => {
  it('the figures are right, and every name of the dashboard and the rules exists', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '1M');
    const options = ['--metrics=0', '-C', '1'];
    const disk = await mountDisk(scope, { server: [server.uri()], options });
    const image = await mountImage(scope);
    await runProgram('dd', `if=${disk.file}`, 'of=/dev/null', 'bs=4096', 'count=3', 'iflag=direct');
    const { program, get, query } = await startPrometheus(scope, [portIn(disk.stderr), portIn(image.stderr)]);
    await until('two scrapes', async () => (await query('nbdfuse_up == 1')).length === 2, 30_000);

    const selector = `{mountpoint="${disk.mountpoint}",file="nbd",export="",operation="read"}`;
    const [bytes] = await query(`nbdfuse_request_bytes_total${selector}`);
    expect(bytes.value[1]).toBe('12288');
    const [reads] = await query(`nbdfuse_request_duration_seconds_count${selector}`);
    expect(reads.value[1]).toBe('3');
    const [latency] = await query(
      `histogram_quantile(1, nbdfuse_request_duration_seconds_bucket${selector})`,
    );
    expect(Number(latency.value[1])).toBeGreaterThan(0);

    const types = (await get('metadata')) as Record<string, readonly unknown[]>;
    expect(types.nbdfuse_request_bytes[0]).toMatchObject({ type: 'counter', unit: 'bytes' });
    expect(types.nbdfuse_request_duration_seconds[0]).toMatchObject({ type: 'histogram', unit: 'seconds' });

    const named = new Set(
      [readFileSync(RULES, 'utf8'), ...TARGETS.map(({ expr }) => expr)].flatMap(metricsIn),
    );
    expect(named.size).toBeGreaterThan(25);
    const present = new Set((await get('label/__name__/values')) as string[]);
    expect([...named].filter((name) => !present.has(name))).toEqual([]);
    for (const { expr } of TARGETS) await query(sent(expr));

    await server.program?.kill('SIGKILL');
    await until('the alert', async () => {
      const { alerts } = (await get('alerts')) as { alerts: { labels: Record<string, string> }[] };
      return alerts.some(
        ({ labels }) => labels.alertname === 'NbdfuseReconnecting' && labels.mountpoint === disk.mountpoint,
      );
    });
    await program.kill('SIGTERM');
  });

  it('promtool finds no fault in them', async () => {
    const scope = createScope();
    const disks = [
      await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] }),
      await mountImage(scope),
    ];
    for (const { mountpoint } of disks) {
      const input = await runProgram('node', NBDFUSE, '--status', '--format=prometheus', mountpoint);
      const said = execFileSync(requireProgram('promtool'), ['check', 'metrics'], {
        input,
        encoding: 'utf8',
      });
      expect(said).toBe('');
    }
  });
});

describe('alert rules', () => {
  it('are valid', () => {
    const said = execFileSync(requireProgram('promtool'), ['check', 'rules', RULES], { encoding: 'utf8' });
    expect(said).toMatch(/SUCCESS: \d+ rules found/);
  });

  it('fire in time, and are silent for a healthy mount', () => {
    const scope = createScope();
    copyFileSync(RULES, scope.path('nbdfuse.rules.yml'));
    copyFileSync(RULE_TESTS, scope.path('nbdfuse.rules.test.yml'));
    execFileSync(requireProgram('promtool'), ['test', 'rules', scope.path('nbdfuse.rules.test.yml')]);
  });

  it('have a test each', () => {
    const alerts = [...readFileSync(RULES, 'utf8').matchAll(/alert: (\w+)/g)].map(([, name]) => name);
    const tests = readFileSync(RULE_TESTS, 'utf8');
    expect(alerts.length).toBeGreaterThan(5);
    expect(alerts.filter((name) => !tests.includes(name))).toEqual([]);
  });
});

describe('Grafana dashboard', () => {
  const { panels, templating } = DASHBOARD;

  it('has panels with numbers of their own, within the grid and beside each other', () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)} ${y + Math.floor(i / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(panels.every(({ gridPos: { x, w } }) => x >= 0 && w > 0 && x + w <= 24)).toBe(true);
  });

  it('asks the chosen data source, with variables that it defines', () => {
    const names = templating.list.map(({ name }) => name);
    for (const { type, title, datasource, targets = [] } of panels) {
      expect(targets.length > 0, title).toBe(type !== 'row');
      if (type !== 'row') expect(datasource?.uid, title).toBe(`\${${names[0]}}`);
      expect(new Set(targets.map(({ refId }) => refId)).size).toBe(targets.length);
    }
    const used = [...TARGETS.map(({ expr }) => expr), ...templating.list.map((one) => one.definition ?? '')];
    const variables = used.flatMap((text) => text.match(/(?<=\$)\w+/g) ?? []);
    expect(variables.filter((one) => !names.includes(one) && one !== '__rate_interval')).toEqual([]);
  });
});
