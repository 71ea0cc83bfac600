// --metrics without a mount: which requests reach the worker.

import { expect, it } from 'vitest';
import { Cleanup } from '../../../../src/session/cleanup.js';
import { MetricsService } from '../../../../src/session/metrics/metrics-service.js';
import type { Report } from '../../../../src/session/settings.js';
import { createScope } from '../../../support/cleanup.js';
import { STATUS } from '../../cli/status-sample.js';

/** A service at a free port. */
async function startService() {
  const cleanup = new Cleanup();
  createScope().add(async () => {
    await cleanup.run();
  });
  let said = '';
  const report: Report = {
    line: (text) => {
      said = text;
    },
    detail: () => undefined,
    error: () => undefined,
    serverSaid: () => undefined,
    status: () => undefined,
  };
  const service = await MetricsService.start({ kind: 'tcp', host: '127.0.0.1', port: 0 }, report, cleanup);
  return { service, url: said.replace('metrics at ', '') };
}

it('metrics service: has no metrics before the mount is ready', async () => {
  const { url } = await startService();
  expect((await fetch(url)).status).toBe(503);
});

it('metrics service: asks for a status at most once in 250 ms', async () => {
  const { service, url } = await startService();
  let asked = 0;
  service.provide('/mnt', async () => {
    asked++;
    return [{ path: '/mnt/nbd', status: STATUS }];
  });
  const start = performance.now();
  const texts = await Promise.all(Array.from({ length: 40 }, async () => (await fetch(url)).text()));
  const most = 1 + (performance.now() - start) / 250;
  expect(texts[0]).toContain('nbdfuse_up{mountpoint="/mnt"} 1\n');
  expect(asked).toBeGreaterThan(0);
  expect(asked).toBeLessThanOrEqual(most);
});

it('metrics service: a worker that does not answer is the status 503', async () => {
  const { service, url } = await startService();
  service.provide('/mnt', () => new Promise(() => undefined));
  expect((await fetch(url)).status).toBe(503);
});
