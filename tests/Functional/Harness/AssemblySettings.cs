using System.Runtime.Versioning;
using Xunit.Sdk;
using Xunit.v3;

// One server at a time: two libtorch processes on a small machine only make each other's waits longer.
[assembly: Parallelization(Mode = ParallelMode.None)]

// What the server ships is built for Linux alone.
[assembly: SupportedOSPlatform("linux")]
