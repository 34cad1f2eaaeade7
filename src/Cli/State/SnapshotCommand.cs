using System.CommandLine;
using Sconce.Cli.Terminal;
using Sconce.Client;
using Sconce.V1;
using Spectre.Console;

namespace Sconce.Cli.State;

/// <summary>The verbs over snapshots: <c>snapshot save</c>, <c>ls</c>, <c>restore</c>, <c>delete</c> and <c>policy</c>.</summary>
internal sealed class SnapshotCommand : Command
{
    public SnapshotCommand(CommandTerminal terminal)
        : base("snapshot", "Saves modules with all their training state to the server's disk, and restores them.")
    {
        Subcommands.Add(new SaveVerb(terminal));
        Subcommands.Add(new ListVerb(terminal));
        Subcommands.Add(new RestoreVerb(terminal));
        Subcommands.Add(new DeleteVerb(terminal));
        Subcommands.Add(new PolicyVerb(terminal));
    }

    private static object Summary(Snapshot snapshot) => new
    {
        snapshot.Id,
        snapshot.Module,
        created = snapshot.Created.ToDateTimeOffset(),
        snapshot.Generation,
        snapshot.Step,
        snapshot.Reason,
        snapshot.Bytes,
        snapshot.Sha256,
        files = snapshot.Files.Select(file => new { file.Name, file.Bytes, file.Sha256 }),
    };

    private sealed class SaveVerb : ClientCommand
    {
        private readonly Argument<string> _module = CommonSymbols.Module();
        private readonly Option<int?> _keep = CommonSymbols.PositiveOrNone("--keep-last", "How many of the newest snapshots stay, this one among them.");

        public SaveVerb(CommandTerminal terminal)
            : base(terminal, "save", "Saves a module; when it returns, the snapshot is durable.", "sconce snapshot save mlp")
        {
            Arguments.Add(_module);
            Options.Add(_keep);
        }

        protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
        {
            var saved = await client.Module(parsed.GetValue(_module)!).SaveSnapshotAsync(parsed.GetValue(_keep), cancel).ConfigureAwait(false);
            if (WantsJson(parsed))
                Terminal.Json(Summary(saved));
            else
                Terminal.Output.WriteLine($"saved {saved.Module} as {saved.Id}: step {saved.Step}, {Quantities.Bytes((long)saved.Bytes)}");
            return ExitCode.Ok;
        }
    }

    private sealed class ListVerb : ClientCommand
    {
        private readonly Argument<string> _module = new("module") { Description = "Only those of this module; all if not given.", DefaultValueFactory = _ => "" };

        public ListVerb(CommandTerminal terminal)
            : base(terminal, "ls", "Lists snapshots with their sizes and digests, and those found damaged.", "sconce snapshot ls mlp")
            => Arguments.Add(_module);

        protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
        {
            var module = parsed.GetValue(_module)!;
            var list = await (module.Length == 0 ? client.ListSnapshotsAsync(cancel) : client.Module(module).ListSnapshotsAsync(cancel)).ConfigureAwait(false);
            if (WantsJson(parsed))
            {
                Terminal.Json(new
                {
                    snapshots = list.Snapshots.Select(Summary),
                    policy = list.Policy is { } policy ? new { policy.EverySteps, policy.OnDrain, policy.KeepLast } : null,
                    damaged = list.Damaged.Select(damaged => new { damaged.Id, damaged.Module, damaged.Why }),
                });
                return ExitCode.Ok;
            }

            foreach (var damaged in list.Damaged)
                Terminal.Error.WriteLine($"Damaged and set aside: {damaged.Id}{(damaged.Module.Length > 0 ? $" of {damaged.Module}" : "")}: {damaged.Why}");
            if (list.Snapshots.Count == 0)
            {
                Terminal.Error.WriteLine("No snapshots. Take one: sconce snapshot save mlp");
                return ExitCode.Ok;
            }

            var table = Listing.Of("SNAPSHOT", "MODULE", "CREATED", ">STEP", "REASON", ">SIZE", "SHA-256");
            foreach (var snapshot in list.Snapshots)
            {
                table.AddRow(
                    snapshot.Id,
                    Markup.Escape(snapshot.Module),
                    snapshot.Created.ToDateTimeOffset().ToString("yyyy-MM-dd HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture),
                    Quantities.Count((long)snapshot.Step),
                    snapshot.Reason,
                    Quantities.Bytes((long)snapshot.Bytes),
                    snapshot.Sha256[..12]);
            }

            Terminal.Out.Write(table);
            return ExitCode.Ok;
        }
    }

    private sealed class RestoreVerb : ClientCommand
    {
        private readonly Argument<string> _module = CommonSymbols.Module();
        private readonly Option<string> _snapshot = new("--snapshot", "-s") { Description = "The snapshot's id; the newest whole one of the module if not given.", HelpName = "id", DefaultValueFactory = _ => "" };

        public RestoreVerb(CommandTerminal terminal)
            : base(terminal, "restore", "Restores a module, in its place or anew.", "sconce snapshot restore mlp")
        {
            Arguments.Add(_module);
            Options.Add(_snapshot);
        }

        protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
        {
            var restored = await client.Module(parsed.GetValue(_module)!).RestoreSnapshotAsync(parsed.GetValue(_snapshot), cancel).ConfigureAwait(false);
            if (WantsJson(parsed))
                Terminal.Json(new { restored.Module, restored.Generation, snapshot = Summary(restored.Snapshot) });
            else
                Terminal.Output.WriteLine($"restored {restored.Module} from {restored.Snapshot.Id}: step {restored.Snapshot.Step}, generation {restored.Generation}");
            return ExitCode.Ok;
        }
    }

    private sealed class DeleteVerb : ClientCommand
    {
        private readonly Argument<string> _snapshot = new("snapshot") { Description = "The snapshot's id." };

        public DeleteVerb(CommandTerminal terminal)
            : base(terminal, "delete", "Deletes a snapshot for good.", "sconce snapshot delete 0123456789abcdef")
        {
            _snapshot.Validators.Add(result => CommonSymbols.RefuseEmpty(result, "snapshot", "the id of a snapshot, as snapshot ls shows it"));
            Arguments.Add(_snapshot);
        }

        protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
        {
            var id = parsed.GetValue(_snapshot)!;
            await client.DeleteSnapshotAsync(id, cancel).ConfigureAwait(false);
            if (WantsJson(parsed))
                Terminal.Json(new { deleted = id });
            else
                Terminal.Output.WriteLine($"deleted {id}");
            return ExitCode.Ok;
        }
    }

    private sealed class PolicyVerb : ClientCommand
    {
        private readonly Argument<string> _module = CommonSymbols.Module();
        private readonly Option<int?> _every = CommonSymbols.PositiveOrNone("--every-steps", "Take a snapshot after so many optimizer steps; never if not given.");
        private readonly Option<bool> _drain = new("--on-drain") { Description = "Take a snapshot when the server stops." };
        private readonly Option<int?> _keep = CommonSymbols.PositiveOrNone("--keep-last", "How many of the newest stay; 3 if not given.");

        public PolicyVerb(CommandTerminal terminal)
            : base(terminal, "policy", "Sets when the server takes snapshots of a module by itself.", "sconce snapshot policy mlp --every-steps 100 --on-drain")
        {
            Arguments.Add(_module);
            Options.Add(_every);
            Options.Add(_drain);
            Options.Add(_keep);
        }

        protected override async Task<int> RunAsync(ParseResult parsed, SconceClient client, CancellationToken cancel)
        {
            var name = parsed.GetValue(_module)!;
            var wanted = new SnapshotPolicy { EverySteps = (ulong)(parsed.GetValue(_every) ?? 0), OnDrain = parsed.GetValue(_drain), KeepLast = (uint)(parsed.GetValue(_keep) ?? 0) };
            var policy = await client.Module(name).SetSnapshotPolicyAsync(wanted, cancel).ConfigureAwait(false);
            if (WantsJson(parsed))
            {
                Terminal.Json(new { module = name, policy.EverySteps, policy.OnDrain, policy.KeepLast });
                return ExitCode.Ok;
            }

            var when = (policy.EverySteps, policy.OnDrain) switch
            {
                (0, false) => "on request only",
                (0, true) => "when the server stops",
                (var steps, false) => $"every {steps} steps",
                (var steps, true) => $"every {steps} steps and when the server stops",
            };
            Terminal.Output.WriteLine($"{name}: snapshots {when}; the newest {policy.KeepLast} stay");
            return ExitCode.Ok;
        }
    }
}
