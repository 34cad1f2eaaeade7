using System.Diagnostics;
using System.IO.Compression;
using System.Reflection;
using Sconce.V1;

namespace Sconce.Client.Tests;

/// <summary>The packages as a stranger gets them: packed, installed into a fresh console project, built and run.</summary>
public sealed class PackageTests : IDisposable
{
    private static readonly TimeSpan Bound = TimeSpan.FromMinutes(4);

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("sconce-package-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task Pack_freshConsoleProject_installsAndUsesTheClient()
    {
        var feed = Path.Combine(_folder.FullName, "feed");
        var root = RepositoryRoot();
        // As built for these tests, so that nothing is compiled again under the feet of a parallel run.
        var configuration = typeof(PackageTests).Assembly.GetCustomAttribute<AssemblyConfigurationAttribute>()!.Configuration;
        await DotnetAsync(root, "pack", "proto/Sconce.Proto.csproj", "--no-build", "-c", configuration, "-o", feed, "-nodeReuse:false");
        await DotnetAsync(root, "pack", "src/Client/Sconce.Client.csproj", "--no-build", "-c", configuration, "-o", feed, "-nodeReuse:false");

        var client = Assert.Single(Directory.GetFiles(feed, "Sconce.Client.*.nupkg"));
        var proto = Assert.Single(Directory.GetFiles(feed, "Sconce.Proto.*.nupkg"));
        Assert.Superset(new HashSet<string> { "README.md", "lib/net10.0/Sconce.Client.dll", "lib/net10.0/Sconce.Client.xml" }, Entries(client));
        Assert.Superset(new HashSet<string> { "README.md", "lib/net10.0/Sconce.Proto.dll", "content/proto/sconce/v1/module.proto" }, Entries(proto));
        Assert.All([client, proto], package => Assert.Contains("<authors>Sconce</authors>", Nuspec(package), StringComparison.Ordinal));

        var version = Path.GetFileNameWithoutExtension(client)["Sconce.Client.".Length..];
        var project = Directory.CreateDirectory(Path.Combine(_folder.FullName, "app")).FullName;
        // The packages go to a folder of this test: the user's cache must neither hide them nor keep them.
        await File.WriteAllTextAsync(Path.Combine(project, "nuget.config"), $"""
            <configuration>
              <config><add key="globalPackagesFolder" value="{Path.Combine(_folder.FullName, "packages")}" /></config>
              <packageSources><add key="packed" value="{feed}" /></packageSources>
            </configuration>
            """);
        await File.WriteAllTextAsync(Path.Combine(project, "app.csproj"), $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <Nullable>enable</Nullable>
                <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="Sconce.Client" Version="[{version}]" />
              </ItemGroup>
            </Project>
            """);
        await File.WriteAllTextAsync(Path.Combine(project, "Program.cs"), """
            using Sconce.Client;

            await using var client = new SconceClient(args[0]);
            var model = await client.CreateModuleAsync("mlp", Nn.Sequential(Nn.Linear(4, 8), Nn.ReLU(), Nn.Linear(8, 4)), seed: 0);
            await model.CreateOptimizerAsync("Adam", [("lr", 1e-3)]);
            var x = TensorData.Create([1f, 2f, 3f, 4f], 1, 4);
            var step = await model.TrainStepAsync(x, TensorData.Create([2L], 1), Nn.CrossEntropyLoss());
            await model.EvalAsync();
            var y = await model.ForwardAsync(x);
            Console.WriteLine($"{model} {step.Loss:0.00} {y} {y.As<float>().Span[3]}");
            """);
        await DotnetAsync(project, "build", "-o", "out", "-nodeReuse:false", "-p:UseSharedCompilation=false");

        await using var server = await FakeServer.StartAsync();
        server.On<ForwardRequest, ForwardResponse>((request, _) => Fakes.Echo(request));
        server.On<CreateOptimizerRequest, CreateOptimizerResponse>((_, _) => new CreateOptimizerResponse { Optimizer = new Optimizer { Name = "default" } });
        server.On<TrainStepRequest, TrainStepResponse>((_, _) => new TrainStepResponse { Loss = 0.5 });
        var output = await DotnetAsync(project, "out/app.dll", server.Address);

        Assert.Equal("mlp 0.50 float32[1, 4] 4", output.Trim());
        Assert.Equal(3, server.Seen<CreateModuleRequest>()[0].Spec.Children.Count);
    }

    private static HashSet<string> Entries(string package)
    {
        using var archive = ZipFile.OpenRead(package);
        return [.. archive.Entries.Select(entry => entry.FullName)];
    }

    private static string Nuspec(string package)
    {
        using var archive = ZipFile.OpenRead(package);
        using var reader = new StreamReader(archive.Entries.Single(entry => entry.FullName.EndsWith(".nuspec", StringComparison.Ordinal)).Open());
        return reader.ReadToEnd();
    }

    private static string RepositoryRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Sconce.slnx")))
                return folder.FullName;
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} holds Sconce.slnx.");
    }

    private static async Task<string> DotnetAsync(string folder, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        // What the test host's own MSBuild left in the environment would make this one load another SDK's tasks.
        foreach (var name in start.Environment.Keys.Where(name => name.StartsWith("MSBuild", StringComparison.OrdinalIgnoreCase)).ToList())
            start.Environment.Remove(name);
        start.Environment["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1";
        using var process = Process.Start(start)!;
        using var limit = new CancellationTokenSource(Bound);
        try
        {
            var output = process.StandardOutput.ReadToEndAsync(limit.Token);
            var error = process.StandardError.ReadToEndAsync(limit.Token);
            await process.WaitForExitAsync(limit.Token);
            Assert.True(process.ExitCode == 0, $"dotnet {string.Join(' ', arguments)} ended with {process.ExitCode}:\n{await output}\n{await error}");
            return await output;
        }
        finally
        {
            if (!process.HasExited)
                process.Kill(entireProcessTree: true);
        }
    }
}
