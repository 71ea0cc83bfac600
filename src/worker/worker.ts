// The worker's thread: started by the main thread, given its settings by the first call.

import type { WorkerSettings } from './contract/messages.js';
import { runThread } from './loop/thread.js';
import { MountWorker } from './mount-worker.js';
import { realWorld } from './world.js';

runThread((port, settings: WorkerSettings) =>
  new MountWorker(settings, realWorld(port, settings.wake)).run(),
);
