using CsCheck;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;

namespace Sconce.Engine.Tests.Properties;

/// <summary>Modes and requires_grad of random trees after random calls of train, of policies and of requires_grad_ are the model's.</summary>
public sealed class ModeProperties
{
    [Fact]
    public void Any_calls_leave_the_modes_of_the_model() => RandomTree.Gen.Sample(random =>
    {
        var numbers = random.Random;
        using var tree = ModuleBuilder.Build(random.Spec, ElementType.Float32, new BuildLimits());
        var paths = random.Root.Paths().ToList();
        var (normEval, frozen) = (false, new List<ModelModule>());
        for (var step = 0; step < 8; step++)
        {
            var (path, part) = paths[numbers.Next(paths.Count)];
            var flag = numbers.Next(2) == 0;
            switch (numbers.Next(4))
            {
                case 0:
                    normEval = flag;
                    var chosen = Enumerable.Range(0, numbers.Next(3)).Select(_ => paths[numbers.Next(paths.Count)]).ToList();
                    tree.Policy.Set(normEval, [.. chosen.Select(at => at.Path)]);
                    frozen = [.. chosen.SelectMany(at => at.Module.Modules()).Select(at => at.Module)];
                    Require(frozen, false);
                    break;
                case 1:
                    ParameterSelection.RequiresGrad(tree.Find(path), flag, []);
                    Require(part.Modules().Select(at => at.Module), flag);
                    break;
                default:
                    // Twice as often as the others.
                    tree.Find(path).Train(flag);
                    foreach (var (_, module) in part.Modules())
                    {
                        module.Mode = flag;
                    }

                    Require(part.Modules().Select(at => at.Module).Intersect(frozen), false);
                    break;
            }

            foreach (var ((at, module), (_, node)) in random.Root.Modules().Zip(ModuleTree.Walk(tree.Root)))
            {
                var training = module.Mode && !frozen.Contains(module) && !(normEval && module.IsNorm);
                Assert.Equal((at, training), (at, node.Training));
                Assert.Equal(module.Parameters.Select(p => p.RequiresGrad), node.Parameters.Select(p => p.Parameter.requires_grad));
            }
        }
    }, iter: 300, threads: 1);

    private static void Require(IEnumerable<ModelModule> modules, bool value)
    {
        foreach (var parameter in modules.SelectMany(module => module.Parameters))
        {
            parameter.RequiresGrad = value;
        }
    }
}
