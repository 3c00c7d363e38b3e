// Trains a network to tell whether a point lies within a circle.

use isograd::prelude::*;

fn main() -> Result<()> {
    let ctx = isograd::default_device()?;
    seed(1);

    // Points of the square from -1 to 1, of class 1 where they lie within the circle.
    let points = Tensor::uniform(&ctx, [512, 2], -1.0, 1.0, DType::F32)?;
    let classes = points.square()?.sum(1, false)?.less_scalar(0.6)?.cast(DType::I64)?;

    let mut net = Sequential::new();
    net.add(Dense::new(32).activation(Activation::Relu)).add(Dense::new(2));
    net.initialize(Xavier::default(), &ctx)?;
    println!("{net}");

    let mut trainer = Trainer::new(net.collect_params(), Adam::new(0.01))?;
    let criterion = SoftmaxCrossEntropyLoss::default();
    let mut accuracy = Accuracy::default();
    for epoch in 1..=100 {
        let (loss, scores) = autograd::try_record(|| {
            let scores = net.forward(&points)?;
            Ok((criterion.loss(&scores, &classes)?, scores))
        })?;
        loss.backward()?;
        trainer.step(512)?;
        accuracy.reset();
        accuracy.update(&classes, &scores)?;
        if epoch % 20 == 0 {
            println!(
                "epoch {epoch}: loss {:.4}, accuracy {:.3}",
                loss.mean((), false)?.asscalar::<f32>()?,
                accuracy.value()
            );
        }
    }
    net.save_parameters("circle.safetensors")?;
    Ok(())
}
