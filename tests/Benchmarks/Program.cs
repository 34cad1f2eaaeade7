using System.Globalization;
using Sconce.Benchmarks;
using Sconce.Benchmarks.Sides;

return args is [ServerProcess.Command, var threads] ? await ServerHost.RunAsync(int.Parse(threads, CultureInfo.InvariantCulture)) : await BenchCommand.Create().Parse(args).InvokeAsync();
