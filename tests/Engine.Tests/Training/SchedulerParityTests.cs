using System.Text.Json;
using Sconce.Engine.Catalog;
using Sconce.Engine.Training;

namespace Sconce.Engine.Tests.Training;

/// <summary>Learning rates and momenta of two groups over twenty steps against real PyTorch, within 1e-12.</summary>
public sealed class SchedulerParityTests
{
    private const double Tolerance = 1e-12;

    public static TheoryData<int, string> Cases => TrainingFixtures.Rows("schedulers");

    [Theory]
    [MemberData(nameof(Cases))]
    public void Step_gives_the_rates_of_PyTorch(int index, string label)
    {
        var fixture = TrainingFixtures.Load("schedulers")[index];
        var adam = fixture.GetProperty("optimizer").GetString() == "Adam";
        using var tree = Given.Linear();
        using var optimizer = HostedOptimizer.Create(
            "default", adam ? "Adam" : "SGD", adam ? Given.Args(("lr", 0.1)) : Given.Args(("lr", 0.1), ("momentum", 0.9)),
            [new(["weight"], Given.Args()), new(["bias"], Given.Args(("lr", 0.01)))], tree);
        optimizer.CreateScheduler(fixture.GetProperty("type").GetString()!, TrainingFixtures.Args(fixture.GetProperty("args")));

        var metrics = fixture.GetProperty("metrics");
        var rates = fixture.GetProperty("rates").EnumerateArray().Select(Numbers).ToList();
        var momenta = fixture.GetProperty("momenta").EnumerateArray().Select(Numbers).ToList();
        for (var step = 0; step < rates.Count; step++)
        {
            if (step > 0)
            {
                optimizer.SchedulerStep(metrics.ValueKind == JsonValueKind.Array ? metrics[step - 1].GetDouble() : null);
            }

            for (var group = 0; group < 2; group++)
            {
                var options = optimizer.Groups[group].Options;
                var momentum = adam ? ((IEnumerable<double>)options["betas"]!).First() : (double)options["momentum"]!;
                Assert.True(Math.Abs(rates[step][group] - (double)options["lr"]!) <= Tolerance, $"{label}, step {step}: {options["lr"]} is not {rates[step][group]}");
                Assert.True(Math.Abs(momenta[step][group] - momentum) <= Tolerance, $"{label}, step {step}: momentum {momentum} is not {momenta[step][group]}");
            }
        }

        Assert.Equal(rates.Count - 1, optimizer.Scheduler!.Steps);
    }

    [Fact]
    public void Fixtures_cover_every_scheduler()
    {
        var covered = TrainingFixtures.Load("schedulers").Select(fixture => fixture.GetProperty("type").GetString()!).Distinct().Order();
        Assert.Equal(ModuleCatalog.Types.Where(type => type.Kind == TypeKind.Scheduler).Select(type => type.Name).Order(), covered);
    }

    private static double[] Numbers(JsonElement list) => [.. list.EnumerateArray().Select(x => x.GetDouble())];
}
